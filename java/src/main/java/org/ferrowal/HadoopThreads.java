package org.ferrowal;

import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;

/**
 * The daemon threads that carry out what the native side wants of Hadoop's client. They are the log's own: nobody
 * interrupts them, and so no interrupt of Spark's tasks ever closes a stream.
 *
 * <p>There is always one more than is busy, up to a bound, so that a call that hangs keeps no other one waiting. Each kind
 * of calls has a bound of its own: while the name node is away every call to it hangs, one more with each try, and appends
 * to open files, which do not need it, go on.
 */
final class HadoopThreads {
    private static final long WAIT_MILLIS = 1000;
    private static final long PAUSE_NANOS = 100_000_000;
    /** A thread that waited so often for nothing goes, unless it is the lane's last one. */
    private static final int IDLE_WAITS = 30;

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

    /** What the name node answers, and the rest. Numbered as {@code Lane} in {@code src/storage/hadoop/jobs.rs}. */
    private static final Lane[] LANES = {
        new Lane(0, "names", 64), new Lane(1, "appends", 32), new Lane(2, "reads", 64), new Lane(3, "closes", 8)
    };

    private HadoopThreads() {
    }

    /** Sees to it that somebody waits for jobs. */
    static void start() {
        Native.serveJobs();
        for (Lane lane : LANES) {
            if (lane.threads.get() == 0) {
                lane.another();
            }
        }
    }

    /** One kind of calls. */
    private static final class Lane {
        private final int number;
        private final String name;
        private final int most;
        private final AtomicInteger threads = new AtomicInteger();
        private final AtomicInteger waiting = new AtomicInteger();

        Lane(int number, String name, int most) {
            this.number = number;
            this.name = name;
            this.most = most;
        }

        private void another() {
            int now = threads.incrementAndGet();
            if (now > most) {
                threads.decrementAndGet();
                return;
            }
            waiting.incrementAndGet();
            try {
                // Without what the thread that opened the log has inherited for its own threads: these outlive it.
                Thread thread = new Thread(null, this::run, "ferrowal-hadoop-" + name + "-" + now, 0, false);
                thread.setDaemon(true);
                // Hadoop finds its file systems through it.
                thread.setContextClassLoader(HadoopThreads.class.getClassLoader());
                thread.start();
            } catch (OutOfMemoryError e) {
                // There is no memory for another thread: those that there are do what they can.
                waiting.decrementAndGet();
                threads.decrementAndGet();
            }
        }

        private void run() {
            long[] numbers = new long[LONGS];
            byte[] piece = new byte[64 << 10];
            int idle = 0;
            while (true) {
                String[] paths;
                try {
                    paths = Native.takeJob(number, WAIT_MILLIS, numbers);
                } catch (Throwable e) {
                    // For want of memory, say. The job is still the oldest.
                    LockSupport.parkNanos(PAUSE_NANOS);
                    continue;
                }
                if (paths == null) {
                    idle++;
                    if (idle > IDLE_WAITS && leave()) {
                        return;
                    }
                    continue;
                }
                idle = 0;
                int left = waiting.decrementAndGet();
                try {
                    if (left == 0) {
                        another();
                    }
                    HadoopRoot.carryOut(numbers, paths, piece);
                } catch (Throwable e) {
                    failed(numbers[ID], e);
                } finally {
                    waiting.incrementAndGet();
                }
            }
        }

        private boolean leave() {
            int now = threads.get();
            if (now <= 1 || !threads.compareAndSet(now, now - 1)) {
                return false;
            }
            waiting.decrementAndGet();
            return true;
        }
    }

    /** Answers with an error. If not even that can be, whoever waits gives up in time; the thread stays. */
    private static void failed(long id, Throwable why) {
        try {
            Native.jobAnswer(id, HadoopRoot.OTHER, "Hadoop's client failed: " + why, 0, null);
        } catch (Throwable e) {
            LockSupport.parkNanos(PAUSE_NANOS);
        }
    }
}
