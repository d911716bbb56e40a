package org.ferrowal.examples;

import java.io.IOException;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

import org.apache.spark.storage.StorageLevel;
import org.apache.spark.streaming.receiver.Receiver;

/**
 * The part of a reliable receiver that is the same for every source: connect; take some messages; store them as one block,
 * which returns when they are in the log; only then acknowledge them. After a failure it connects anew, and the source
 * gives again what was not acknowledged.
 */
abstract class ReliableReceiver extends Receiver<String> {
    private static final long serialVersionUID = 1;

    private static final long FIRST_BACKOFF_MILLIS = 100;
    private static final long LONGEST_BACKOFF_MILLIS = 5_000;

    private transient CountDownLatch stopping;

    ReliableReceiver() {
        // One copy in memory is enough: the log has the other one.
        super(StorageLevel.MEMORY_AND_DISK_SER());
    }

    /** A source that is connected. Used by one thread. */
    interface Connection extends AutoCloseable {
        /** Some messages; none if none came within about a tenth of a second. */
        List<String> take() throws Exception;

        /** Acknowledges all that were taken. */
        void acknowledge() throws Exception;

        @Override
        void close() throws IOException;
    }

    /** Connects to the source. */
    abstract Connection connect() throws Exception;

    @Override
    public final void onStart() {
        CountDownLatch stop = new CountDownLatch(1);
        stopping = stop;
        Thread thread = new Thread(() -> run(stop), "reliable-receiver");
        thread.setDaemon(true);
        thread.start();
    }

    @Override
    public final void onStop() {
        stopping.countDown();
    }

    private void run(CountDownLatch stop) {
        long backoff = FIRST_BACKOFF_MILLIS;
        try {
            do {
                try (Connection connection = connect()) {
                    while (stop.getCount() > 0) {
                        List<String> messages = connection.take();
                        if (!messages.isEmpty()) {
                            store(messages.iterator());
                            connection.acknowledge();
                            backoff = FIRST_BACKOFF_MILLIS;
                        }
                    }
                } catch (InterruptedException e) {
                    throw e;
                } catch (Exception e) {
                    // A full disk, a source that went away: what was not acknowledged comes again.
                    if (stop.getCount() > 0) {
                        reportError("will connect again in " + backoff + " ms", e);
                    }
                }
                backoff = Math.min(2 * backoff, LONGEST_BACKOFF_MILLIS);
            } while (!stop.await(backoff, TimeUnit.MILLISECONDS));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
