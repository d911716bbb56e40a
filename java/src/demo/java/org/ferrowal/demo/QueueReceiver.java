package org.ferrowal.demo;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

import jakarta.jms.BytesMessage;
import jakarta.jms.Connection;
import jakarta.jms.JMSException;
import jakarta.jms.MessageConsumer;
import jakarta.jms.Session;
import org.apache.activemq.artemis.jms.client.ActiveMQConnectionFactory;
import org.apache.spark.storage.StorageLevel;
import org.apache.spark.streaming.receiver.Receiver;

/**
 * A reliable receiver, as Spark's guide to custom receivers describes it: it collects messages, stores them as one block,
 * and acknowledges them to the broker only after {@code store} returned. If {@code store} throws, the broker gets them
 * back and delivers them again.
 *
 * <p>With a write-ahead log, {@code store} returns when the block is in it. Without, it returns when the block is in
 * this process's memory: then the acknowledgement promises more than the application can keep.
 */
public final class QueueReceiver extends Receiver<byte[]> {
    private static final long serialVersionUID = 1;

    private static final int BLOCK_MESSAGES = 64;
    private static final long BLOCK_MILLIS = 100;
    private static final long FIRST_BACKOFF_MILLIS = 100;
    private static final long LONGEST_BACKOFF_MILLIS = 5_000;

    private final String brokerUrl;
    private final String queue;
    private transient CountDownLatch stopping;

    /** Will consume from {@code queue} of the broker at {@code brokerUrl}. */
    public QueueReceiver(String brokerUrl, String queue) {
        super(StorageLevel.MEMORY_AND_DISK_SER());
        this.brokerUrl = brokerUrl;
        this.queue = queue;
    }

    @Override
    public void onStart() {
        CountDownLatch stop = new CountDownLatch(1);
        stopping = stop;
        Thread thread = new Thread(() -> run(stop), "queue-receiver");
        thread.setDaemon(true);
        thread.start();
    }

    @Override
    public void onStop() {
        stopping.countDown();
    }

    /** Consumes until stopped; after a failure it waits, a little longer each time, and connects anew. */
    private void run(CountDownLatch stop) {
        long backoff = FIRST_BACKOFF_MILLIS;
        try {
            do {
                try {
                    if (consume(stop) > 0) {
                        backoff = FIRST_BACKOFF_MILLIS;
                    }
                } catch (JMSException | RuntimeException e) {
                    // Closing the session gave the broker back what was not acknowledged.
                    reportError("Not stored, so not acknowledged; will try again in " + backoff + " ms", e);
                }
                backoff = Math.min(2 * backoff, LONGEST_BACKOFF_MILLIS);
            } while (!stop.await(backoff, TimeUnit.MILLISECONDS));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** Consumes over one connection until stopped. */
    private int consume(CountDownLatch stop) throws JMSException {
        int blocks = 0;
        try (ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory(brokerUrl);
                Connection connection = factory.createConnection();
                Session session = connection.createSession(false, Session.CLIENT_ACKNOWLEDGE);
                MessageConsumer consumer = session.createConsumer(session.createQueue(queue))) {
            connection.start();
            while (stop.getCount() > 0) {
                List<byte[]> block = new ArrayList<>();
                jakarta.jms.Message last = null;
                long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(BLOCK_MILLIS);
                while (block.size() < BLOCK_MESSAGES) {
                    long left = TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime());
                    jakarta.jms.Message message = left <= 0 ? null : consumer.receive(left);
                    if (message == null) {
                        break;
                    }
                    BytesMessage bytes = (BytesMessage) message;
                    byte[] body = new byte[(int) bytes.getBodyLength()];
                    bytes.readBytes(body);
                    block.add(body);
                    last = message;
                }
                if (last != null) {
                    store(block.iterator());
                    last.acknowledge(); // This one and all before it in the session.
                    blocks++;
                }
            }
        }
        return blocks;
    }
}
