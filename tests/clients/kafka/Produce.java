import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.*;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Java's own client of the Kafka door; order.py says what an order is. Compiled once, run with several versions. */
public class Produce {
  static final long BEGAN = System.nanoTime();
  static final List<String> ACKS = new ArrayList<>();
  static final Map<String, String> FAULTS = new LinkedHashMap<>();
  static final Map<String, Integer> COUNTS = new HashMap<>();

  static String order(String name, String otherwise) {
    String value = System.getenv("CLIENT_" + name);
    return value == null || value.isEmpty() ? otherwise : value;
  }

  static double seconds() { return (System.nanoTime() - BEGAN) / 1e9; }

  static String quoted(String text) {
    String kept = text == null ? "" : text.substring(0, Math.min(500, text.length()));
    return '"' + kept.replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\p{Cntrl}", " ") + '"';
  }

  static synchronized void acked(int i, long offset) { ACKS.add("[" + i + "," + offset + "]"); }

  static synchronized void fault(Throwable error) {
    if (error instanceof ExecutionException && error.getCause() != null) error = error.getCause();
    String name = error.getClass().getSimpleName();
    String code = error instanceof RetriableException ? "retriable" : "";
    FAULTS.putIfAbsent(name + code, "\"class\":" + quoted(name) + ",\"code\":" + quoted(code) + ",\"message\":" + quoted(error.getMessage()));
    COUNTS.merge(name + code, 1, Integer::sum);
  }

  static String version() {
    Properties version = new Properties();
    try (InputStream file = Produce.class.getResourceAsStream("/kafka/kafka-version.properties")) {
      version.load(file);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
    return version.getProperty("version");
  }

  static synchronized void summary() {
    StringJoiner faults = new StringJoiner(",", "[", "]");
    FAULTS.forEach((key, text) -> faults.add("{" + text + ",\"count\":" + COUNTS.get(key) + "}"));
    System.out.println("{\"client\":\"java\",\"version\":" + quoted(version()) + ",\"seconds\":" + seconds() + ",\"acks\":[" + String.join(",", ACKS) + "],\"errors\":" + faults + "}");
  }

  static ProducerRecord<byte[], byte[]> record(int i) {
    String run = order("RUN", "");
    ByteArrayOutputStream value = new ByteArrayOutputStream();
    value.writeBytes((run + " " + i + " ").getBytes(StandardCharsets.UTF_8));
    for (int j = 0; j < i * 37 % 200; j++) value.write((i + j) % 256);
    value.writeBytes(new byte[Integer.parseInt(order("MORE_BYTES", "0"))]);
    List<Header> headers = List.of(new RecordHeader("n", Integer.toString(i).getBytes()), new RecordHeader("empty", new byte[0]));
    int partition = i % Integer.parseInt(order("PARTITIONS", "1"));
    return new ProducerRecord<>(order("TOPIC", ""), partition, (run + "-" + i).getBytes(), value.toByteArray(), headers);
  }

  static Properties settings() {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", order("BOOTSTRAP", ""));
    settings.put("compression.type", order("COMPRESSION", "none"));
    settings.put("max.request.size", Integer.toString(8 << 20));
    String ca = order("CA", null), mechanism = order("MECHANISM", null);
    settings.put("security.protocol", (mechanism == null ? "" : "SASL_") + (ca == null ? "PLAINTEXT" : "SSL"));
    if (ca != null) {
      settings.put("ssl.truststore.type", "PEM");
      settings.put("ssl.truststore.location", ca);
    }
    if (mechanism != null) login(settings, mechanism, order("TOKEN", null));
    if (order("IDEMPOTENT", null) != null) settings.put("enable.idempotence", order("IDEMPOTENT", ""));
    if (order("ACKS", null) != null) settings.put("acks", order("ACKS", ""));
    return settings;
  }

  static void login(Properties settings, String mechanism, String token) {
    settings.put("sasl.mechanism", mechanism);
    String names = " required username=\"" + order("USER", "") + "\" password=\"" + order("PASSWORD", "") + "\";";
    String base = "org.apache.kafka.common.security.";
    if (token != null) {
      settings.put("sasl.login.callback.handler.class", Token.class.getName());
      settings.put("sasl.jaas.config", base + "oauthbearer.OAuthBearerLoginModule required;");
    } else {
      settings.put("sasl.jaas.config", base + (mechanism.equals("PLAIN") ? "plain.PlainLoginModule" : "scram.ScramLoginModule") + names);
    }
  }

  public static void main(String[] args) throws Exception {
    int count = Integer.parseInt(order("COUNT", "1"));
    double pause = Double.parseDouble(order("SECONDS", "0")) / count, patience = Double.parseDouble(order("PATIENCE", "60"));
    CountDownLatch open = new CountDownLatch(count);
    var producer = new KafkaProducer<>(settings(), new ByteArraySerializer(), new ByteArraySerializer());
    for (int i = 0; i < count && seconds() < patience; i++) {
      double wait = i * pause - seconds();
      if (wait > 0) Thread.sleep((long) (wait * 1000));
      int number = i;
      producer.send(record(i), (sent, error) -> {
        if (error == null) acked(number, sent.offset()); else fault(error);
        open.countDown();
      });
    }
    if (!open.await((long) Math.max(0, (patience - seconds()) * 1000), TimeUnit.MILLISECONDS)) fault(new TimeoutException("neither acknowledged nor failed"));
    summary();
    producer.close(java.time.Duration.ofSeconds(3));
    System.exit(0);
  }

  /** Gives the token of the order. */
  public static class Token implements AuthenticateCallbackHandler {
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {}

    public void close() {}

    public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
      for (Callback callback : callbacks) {
        if (!(callback instanceof OAuthBearerTokenCallback)) continue; // SASL extensions: none.
        ((OAuthBearerTokenCallback) callback).token(new OAuthBearerToken() {
          public String value() { return order("TOKEN", ""); }

          public Set<String> scope() { return Set.of(); }

          public long lifetimeMs() { return System.currentTimeMillis() + 3_600_000; }

          public String principalName() { return "a-test"; }

          public Long startTimeMs() { return null; }
        });
      }
    }
  }
}
