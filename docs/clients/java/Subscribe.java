import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Subscribe BROKERS TOPIC GROUP: reads results, and commits them once they are dealt with. */
public class Subscribe {
    public static void main(String[] args) throws Exception {
        Map<String, Object> config = Map.of(
                "bootstrap.servers", args[0],
                "group.id", args[2],
                "isolation.level", "read_committed", // Java's default would also show results that were taken back
                "enable.auto.commit", false,
                "auto.offset.reset", "earliest");
        ObjectMapper json = new ObjectMapper();
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(args[1]));
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    var headers = new TreeMap<String, String>(); // ce_id is the same when a result comes twice
                    for (var header : record.headers()) headers.put(header.key(), new String(header.value(), UTF_8));
                    var result = json.readTree(record.value());
                    var key = record.key() == null ? "" : record.key();
                    var line = Map.of("key", key, "headers", headers, "result", result);
                    System.out.println(json.writeValueAsString(line));
                }
                consumer.commitSync();
            }
        }
    }
}
