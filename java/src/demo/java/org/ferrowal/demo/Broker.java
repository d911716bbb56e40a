package org.ferrowal.demo;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

import org.apache.activemq.artemis.api.core.Message;
import org.apache.activemq.artemis.api.core.QueueConfiguration;
import org.apache.activemq.artemis.api.core.RoutingType;
import org.apache.activemq.artemis.core.config.Configuration;
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.postoffice.RoutingStatus;
import org.apache.activemq.artemis.core.server.JournalType;
import org.apache.activemq.artemis.core.server.MessageReference;
import org.apache.activemq.artemis.core.server.ServerConsumer;
import org.apache.activemq.artemis.core.server.ServerSession;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;
import org.apache.activemq.artemis.core.server.impl.AckReason;
import org.apache.activemq.artemis.core.server.plugin.ActiveMQServerPlugin;
import org.apache.activemq.artemis.core.settings.impl.AddressSettings;
import org.apache.activemq.artemis.core.transaction.Transaction;

/**
 * The process that holds the messages: an ActiveMQ Artemis broker with one durable queue per run, on 127.0.0.1.
 *
 * <p>It writes down what happens to each numbered message, one line each, in {@code events}:
 * {@code <milliseconds> <S sent | D delivered | A acknowledged | C consumer came> <queue> <number>}.
 * That file is the broker's side of the count. Arguments: port, directory, queues.
 */
public final class Broker {
    private Broker() {
    }

    /** Runs until its standard input ends, which is when the demo ends, however it does. */
    public static void main(String[] args) throws Exception {
        int port = Integer.parseInt(args[0]);
        Path dir = Path.of(args[1]);
        Configuration configuration = new ConfigurationImpl()
            .setName("demo")
            .setSecurityEnabled(false)
            .setJournalType(JournalType.NIO)
            .setJournalDirectory(dir.resolve("journal").toString())
            .setBindingsDirectory(dir.resolve("bindings").toString())
            .setLargeMessagesDirectory(dir.resolve("large").toString())
            .setPagingDirectory(dir.resolve("paging").toString())
            .setMaxDiskUsage(-1)
            .addAcceptorConfiguration("tcp", "tcp://127.0.0.1:" + port)
            .addAddressSetting("#", new AddressSettings().setMaxDeliveryAttempts(-1));
        for (int i = 2; i < args.length; i++) {
            configuration.addQueueConfiguration(
                QueueConfiguration.of(args[i]).setRoutingType(RoutingType.ANYCAST).setDurable(true));
        }
        configuration.registerBrokerPlugin(new Witness(dir.resolve("events")));
        EmbeddedActiveMQ broker = new EmbeddedActiveMQ().setConfiguration(configuration);
        broker.start();
        System.out.println(JavaProcess.READY);
        JavaProcess.awaitEndOfInput();
        Runtime.getRuntime().halt(0); // The queues are of no use any more: no orderly stop.
    }

    /** Notes what happens to each message. Called by the broker's threads, several at once. */
    private static final class Witness implements ActiveMQServerPlugin {
        private final FileChannel events;

        Witness(Path file) throws IOException {
            events = FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
        }

        @Override
        public void afterSend(ServerSession session, Transaction tx, Message message, boolean direct,
                boolean noAutoCreateQueue, RoutingStatus result) {
            note('S', message.getAddress(), message);
        }

        @Override
        public void afterDeliver(ServerConsumer consumer, MessageReference reference) {
            note('D', reference.getQueue().getName().toString(), reference.getMessage());
        }

        @Override
        public void messageAcknowledged(Transaction tx, MessageReference reference, AckReason reason,
                ServerConsumer consumer) {
            note('A', reference.getQueue().getName().toString(), reference.getMessage());
        }

        @Override
        public void afterCreateConsumer(ServerConsumer consumer) {
            write('C', consumer.getQueueName().toString(), 0);
        }

        private void note(char what, String queue, Message message) {
            if (message.containsProperty(Producer.NUMBER)) {
                write(what, queue, message.getLongProperty(Producer.NUMBER));
            }
        }

        private synchronized void write(char what, String queue, long number) {
            String line = System.currentTimeMillis() + " " + what + " " + queue + " " + number + "\n";
            try {
                events.write(ByteBuffer.wrap(line.getBytes(StandardCharsets.US_ASCII)));
            } catch (IOException e) {
                // Without this file nothing can be counted: the demo must not go on.
                e.printStackTrace();
                Runtime.getRuntime().halt(1);
                throw new UncheckedIOException(e);
            }
        }
    }
}
