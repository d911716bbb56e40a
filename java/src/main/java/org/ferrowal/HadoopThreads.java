package org.ferrowal;

import java.util.concurrent.atomic.AtomicInteger;

/**
 * The daemon threads that carry out what the native side wants of Hadoop's client. They are the log's own: nobody
 * interrupts them, and so no interrupt of Spark's tasks ever closes a stream.
 *
 * <p>There is always one more than is busy, up to a bound, so that a call that hangs keeps no other one waiting.
 */
final class HadoopThreads {
    private static final long WAIT_MILLIS = 1000;
    private static final int MOST = 64;
    /** A thread that waited so often for nothing goes, unless it is one of the last two. */
    private static final int IDLE_WAITS = 30;
    private static final int KEPT = 2;

    private static final AtomicInteger THREADS = new AtomicInteger();
    private static final AtomicInteger WAITING = new AtomicInteger();

    /** Longs of a job, as {@code src/jni/jobs.rs} has them. */
    static final int ID = 0;
    static final int ROOT = 1;
    static final int WHAT = 2;
    static final int FILE = 3;
    static final int A = 4;
    static final int B = 5;
    static final int BYTES = 6;
    static final int ROOM = 7;
    private static final int LONGS = 8;

    private HadoopThreads() {
    }

    /** Sees to it that somebody waits for jobs. */
    static void start() {
        Native.serveJobs();
        if (THREADS.get() == 0) {
            another();
        }
    }

    private static void another() {
        int now = THREADS.incrementAndGet();
        if (now > MOST) {
            THREADS.decrementAndGet();
            return;
        }
        Thread thread = new Thread(HadoopThreads::run, "ferrowal-hadoop-" + now);
        thread.setDaemon(true);
        // Hadoop finds its file systems through it.
        thread.setContextClassLoader(HadoopThreads.class.getClassLoader());
        WAITING.incrementAndGet();
        try {
            thread.start();
        } catch (OutOfMemoryError e) {
            // There is no memory for another thread: those that there are do what they can.
            WAITING.decrementAndGet();
            THREADS.decrementAndGet();
        }
    }

    private static void run() {
        long[] numbers = new long[LONGS];
        byte[] piece = new byte[64 << 10];
        int idle = 0;
        while (true) {
            String[] paths = Native.takeJob(WAIT_MILLIS, numbers);
            if (paths == null) {
                idle++;
                if (idle > IDLE_WAITS && leave()) {
                    return;
                }
                continue;
            }
            idle = 0;
            int left = WAITING.decrementAndGet();
            try {
                if (left == 0) {
                    another();
                }
                HadoopRoot.carryOut(numbers, paths, piece);
            } catch (Throwable e) {
                Native.jobAnswer(numbers[ID], HadoopRoot.OTHER, "Hadoop's client failed: " + e, 0, null);
            } finally {
                WAITING.incrementAndGet();
            }
        }
    }

    private static boolean leave() {
        int now = THREADS.get();
        if (now <= KEPT || !THREADS.compareAndSet(now, now - 1)) {
            return false;
        }
        WAITING.decrementAndGet();
        return true;
    }
}
