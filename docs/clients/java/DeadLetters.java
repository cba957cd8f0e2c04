import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** DeadLetters BROKERS TOPIC GROUP: says why each record had no result, and where it lay. */
public class DeadLetters {
    public static void main(String[] args) throws Exception {
        Map<String, Object> config = Map.of(
                "bootstrap.servers", args[0],
                "group.id", args[2],
                "isolation.level", "read_committed",
                "enable.auto.commit", false,
                "auto.offset.reset", "earliest");
        ObjectMapper json = new ObjectMapper();
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(args[1]));
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    var why = new TreeMap<String, String>(); // the value and all other headers are the record's own
                    for (var header : record.headers())
                        if (header.key().startsWith("streamer.error.") || header.key().startsWith("__connect.errors."))
                            why.put(header.key(), new String(header.value(), UTF_8));
                    int size = record.value() == null ? 0 : record.value().length;
                    System.out.println(json.writeValueAsString(Map.of("why", why, "bytes", size)));
                }
                consumer.commitSync();
            }
        }
    }
}
