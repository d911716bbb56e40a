package org.ferrowal.demo;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

import jakarta.jms.BytesMessage;
import jakarta.jms.Connection;
import jakarta.jms.DeliveryMode;
import jakarta.jms.JMSException;
import jakarta.jms.MessageProducer;
import jakarta.jms.Session;
import org.apache.activemq.artemis.jms.client.ActiveMQConnectionFactory;

/**
 * Sends numbered messages to a queue at a steady rate, on a thread of its own. Each tenth of a second's messages are one
 * transaction, committed durably in the broker, whether or not anybody consumes.
 */
final class Producer extends Thread {
    /** The message property with the number. */
    static final String NUMBER = "number";

    private static final int COMMITS_PER_SECOND = 10;

    private final String brokerUrl;
    private final String queue;
    private final int count;
    private final int rate;
    private volatile JMSException failure;

    /** Will send the numbers 0 to {@code count - 1}, {@code rate} of them a second. */
    Producer(String brokerUrl, String queue, int count, int rate) {
        super("producer-" + queue);
        this.brokerUrl = brokerUrl;
        this.queue = queue;
        this.count = count;
        this.rate = rate;
        setDaemon(true);
    }

    /** Throws what stopped the producer early, if anything did. */
    void check() {
        if (failure != null) {
            throw new DemoException("The producer could not send to the broker: " + failure, failure);
        }
    }

    @Override
    public void run() {
        try (ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory(brokerUrl);
                Connection connection = factory.createConnection();
                Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
                MessageProducer producer = session.createProducer(session.createQueue(queue))) {
            producer.setDeliveryMode(DeliveryMode.PERSISTENT);
            long start = System.nanoTime();
            int step = Math.max(1, rate / COMMITS_PER_SECOND);
            for (int number = 0; number < count; number++) {
                BytesMessage message = session.createBytesMessage();
                message.setLongProperty(NUMBER, number);
                message.writeBytes(Message.encode(number));
                producer.send(message);
                if ((number + 1) % step == 0 || number + 1 == count) {
                    session.commit();
                    long due = start + TimeUnit.SECONDS.toNanos(1) * (number + 1) / rate;
                    for (long left; (left = due - System.nanoTime()) > 0;) {
                        LockSupport.parkNanos(left);
                    }
                }
            }
        } catch (JMSException e) {
            failure = e;
        }
    }
}
