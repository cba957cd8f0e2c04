import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Produce BROKERS TOPIC TEXT…: writes each text as an event. */
public class Produce {
    public static void main(String[] args) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", args[0], "acks", "all", "enable.idempotence", true);
        ObjectMapper json = new ObjectMapper();
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new ByteArraySerializer())) {
            for (int i = 2; i < args.length; i++) {
                var event = Map.of("id", UUID.randomUUID().toString(), "text", args[i]);
                // Events with the same key get their results in the order of the events.
                var record = new ProducerRecord<>(args[1], "user-" + i % 3, json.writeValueAsBytes(event));
                record.headers().add("content-type", "application/json".getBytes(UTF_8));
                record.headers().add("traceparent", traceparent().getBytes(UTF_8));
                var place = producer.send(record).get(); // throws if it was not written
                System.out.println(event.get("id") + " -> " + place);
            }
        }
    }

    /** A new trace, sampled. With OpenTelemetry's agent leave this out: it sets the header itself. */
    static String traceparent() {
        byte[] ids = new byte[24];
        new SecureRandom().nextBytes(ids);
        String hex = HexFormat.of().formatHex(ids);
        return "00-" + hex.substring(0, 32) + "-" + hex.substring(32) + "-01";
    }
}
