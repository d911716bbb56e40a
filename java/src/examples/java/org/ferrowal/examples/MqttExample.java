package org.ferrowal.examples;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;

/**
 * A topic of an MQTT broker as the source, with QoS 1: {@code make example NAME=mqtt}. With two arguments, host and port of
 * a broker that is there already; otherwise ActiveMQ Artemis runs in this process.
 *
 * <p>The session outlives the connection, so the broker keeps what comes while the receiver is away, and gives again what
 * it did not acknowledge.
 */
public final class MqttExample {
    private static final String TOPIC = "sensors";
    private static final String RECEIVER = "ferrowal-example";
    private static final long SESSION_SECONDS = 3600;
    private static final int MESSAGES = 2000;

    private MqttExample() {
    }

    /** Publishes messages, and processes them. */
    public static void main(String[] args) throws Exception {
        try (EmbeddedBroker broker = args.length == 0 ? new EmbeddedBroker("MQTT") : null) {
            String host = broker == null ? args[0] : "127.0.0.1";
            int port = broker == null ? Integer.parseInt(args[1]) : broker.port();
            // The session is begun before anything is published: from here on nothing is missed.
            Mqtt5BlockingClient first = client(host, port);
            begin(first);
            first.disconnect();
            publish(host, port);
            Example.run("mqtt", new MqttReceiver(host, port), MESSAGES);
        }
    }

    private static void publish(String host, int port) {
        Mqtt5BlockingClient client = Mqtt5Client.builder().serverHost(host).serverPort(port).buildBlocking();
        client.connect();
        for (int i = 0; i < MESSAGES; i++) {
            client.publishWith().topic(TOPIC).qos(MqttQos.AT_LEAST_ONCE)
                .payload(Example.message(i).getBytes(StandardCharsets.UTF_8)).send();
        }
        client.disconnect();
    }

    /** A client that has the receiver's session. */
    private static Mqtt5BlockingClient client(String host, int port) {
        return Mqtt5Client.builder().identifier(RECEIVER).serverHost(host).serverPort(port).buildBlocking();
    }

    /** Connects, and begins the session or goes on with it. */
    private static void begin(Mqtt5BlockingClient client) {
        client.connectWith().cleanStart(false).sessionExpiryInterval(SESSION_SECONDS).send();
        client.subscribeWith().topicFilter(TOPIC).qos(MqttQos.AT_LEAST_ONCE).send();
    }

    /** Takes what is published; acknowledges what is in the log. */
    private static final class MqttReceiver extends ReliableReceiver {
        private static final long serialVersionUID = 1;

        private static final int MOST = 200;
        private static final long WAIT_MILLIS = 100;

        private final String host;
        private final int port;

        MqttReceiver(String host, int port) {
            this.host = host;
            this.port = port;
        }

        @Override
        Connection connect() {
            Mqtt5BlockingClient client = client(host, port);
            // Before it connects: a session that goes on gives messages at once. And by hand: not before they are stored.
            Mqtt5BlockingClient.Mqtt5Publishes publishes = client.publishes(MqttGlobalPublishFilter.ALL, true);
            begin(client);
            List<Mqtt5Publish> taken = new ArrayList<>();
            return new Connection() {
                @Override
                public List<String> take() throws InterruptedException {
                    taken.clear();
                    Optional<Mqtt5Publish> next = publishes.receive(WAIT_MILLIS, TimeUnit.MILLISECONDS);
                    while (next.isPresent()) {
                        taken.add(next.get());
                        next = taken.size() < MOST ? publishes.receiveNow() : Optional.empty();
                    }
                    return taken.stream().map(p -> new String(p.getPayloadAsBytes(), StandardCharsets.UTF_8)).toList();
                }

                @Override
                public void acknowledge() {
                    taken.forEach(Mqtt5Publish::acknowledge);
                }

                @Override
                public void close() {
                    publishes.close();
                    client.disconnect();
                }
            };
        }
    }
}
