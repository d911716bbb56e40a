package org.ferrowal.examples;

import java.util.ArrayList;
import java.util.List;

import jakarta.jms.JMSConsumer;
import jakarta.jms.JMSContext;
import jakarta.jms.Message;
import org.apache.activemq.artemis.jms.client.ActiveMQConnectionFactory;

/**
 * A queue of a JMS broker as the source: {@code make example NAME=jms}. With an argument, the URL of a broker that is there
 * already; otherwise ActiveMQ Artemis runs in this process.
 */
public final class JmsExample {
    private static final String QUEUE = "orders";
    private static final int MESSAGES = 2000;

    private JmsExample() {
    }

    /** Sends messages, and processes them. */
    public static void main(String[] args) throws Exception {
        try (EmbeddedBroker broker = args.length == 0 ? new EmbeddedBroker("CORE") : null) {
            String url = broker == null ? args[0] : broker.url("tcp");
            send(url);
            Example.run("jms", new JmsReceiver(url), MESSAGES);
        }
    }

    private static void send(String url) throws Exception {
        try (ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory(url);
                JMSContext session = factory.createContext()) {
            for (int i = 0; i < MESSAGES; i++) {
                session.createProducer().send(session.createQueue(QUEUE), Example.message(i));
            }
        }
    }

    /** Consumes the queue; acknowledges what is in the log. */
    private static final class JmsReceiver extends ReliableReceiver {
        private static final long serialVersionUID = 1;

        private static final int MOST = 200;
        private static final long WAIT_MILLIS = 100;

        private final String url;

        JmsReceiver(String url) {
            this.url = url;
        }

        @Override
        Connection connect() throws Exception {
            ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory(url);
            JMSContext session = factory.createContext(JMSContext.CLIENT_ACKNOWLEDGE);
            JMSConsumer consumer = session.createConsumer(session.createQueue(QUEUE));
            return new Connection() {
                @Override
                public List<String> take() throws Exception {
                    List<String> taken = new ArrayList<>();
                    Message message = consumer.receive(WAIT_MILLIS);
                    while (message != null) {
                        taken.add(message.getBody(String.class));
                        message = taken.size() < MOST ? consumer.receiveNoWait() : null;
                    }
                    return taken;
                }

                @Override
                public void acknowledge() {
                    session.acknowledge(); // All that this session took.
                }

                @Override
                public void close() {
                    session.close();
                    factory.close();
                }
            };
        }
    }
}
