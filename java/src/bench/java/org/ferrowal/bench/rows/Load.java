package org.ferrowal.bench.rows;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;

import org.HdrHistogram.Histogram;
import org.ferrowal.bench.BenchException;

/** The writers of a log in this JVM, a thread each, and one thread that cleans. */
public final class Load implements Contender.Session {
    /** Spark's threshold trails the clock by one or two batches of a second. */
    private static final long TRAIL_MILLIS = 2_000;
    private static final long BATCH_NANOS = TimeUnit.SECONDS.toNanos(1);
    /** A write that takes longer is a hang: beyond Spark's own 30 s for a receiver's block. */
    private static final long HANG_MILLIS = 60_000;

    private final JvmLog.Appender log;
    private final byte[][] records;
    /** Nanoseconds from the start of a write to that of the next, at least; 0 for none. */
    private final long pause;

    /** @param perSecond records a second of each writer; 0 for as many as it can */
    Load(JvmLog.Appender log, int size, int threads, double perSecond) {
        this.log = log;
        this.pause = perSecond > 0 ? (long) (1e9 / perSecond) : 0;
        this.records = Payload.shared(size, threads);
    }

    /** Writers of these records, each of one, as fast as they can. */
    public Load(JvmLog.Appender log, byte[][] records) {
        this.log = log;
        this.pause = 0;
        this.records = records;
    }

    /** A histogram of nanoseconds, to a part in a thousand. */
    public static Histogram histogram() {
        return new Histogram(3_600_000_000_000L, 3);
    }

    @Override
    public Contender.Round round(double ramp, double seconds) throws InterruptedException {
        return new Running(ramp, seconds).run();
    }

    @Override
    public void write(int count) {
        for (int i = count; i > 0; i--) {
            log.write(records[0], System.currentTimeMillis());
        }
    }

    @Override
    public void close() {
        log.close();
    }

    /** One round. */
    private final class Running {
        private final AtomicReference<Throwable> failure = new AtomicReference<>();
        private final CyclicBarrier start;
        // Set before the barrier lets anybody go.
        private long countFrom;
        private long end;

        Running(double ramp, double seconds) {
            start = new CyclicBarrier(records.length + 2, () -> {
                countFrom = System.nanoTime() + (long) (ramp * 1e9);
                end = countFrom + (long) (seconds * 1e9);
            });
        }

        Contender.Round run() throws InterruptedException {
            List<Histogram> times = new ArrayList<>();
            List<Thread> workers = new ArrayList<>();
            for (int i = 0; i < records.length; i++) {
                byte[] record = records[i];
                Histogram own = histogram();
                times.add(own);
                workers.add(start("bench-writer-" + i, () -> write(record, own)));
            }
            workers.add(start("bench-cleaner", this::clean));
            try {
                start.await();
            } catch (BrokenBarrierException e) {
                throw new BenchException("a writer could not start", e);
            }
            park(countFrom);
            long cpu = Cpu.nanos();
            long from = System.nanoTime();
            park(end);
            cpu = Cpu.nanos() - cpu;
            // A log that holds up the whole JVM may hold up this thread, too.
            double measured = (System.nanoTime() - from) / (double) (end - countFrom);
            for (Thread worker : workers) {
                worker.join(HANG_MILLIS);
                if (worker.isAlive()) {
                    throw new BenchException(hang(worker));
                }
            }
            if (failure.get() != null) {
                throw new BenchException(failure.get().toString(), failure.get());
            }
            Histogram all = histogram();
            times.forEach(all::add);
            long count = all.getTotalCount();
            return new Contender.Round(count * 1e9 / (end - countFrom), all,
                measured < 0.5 ? Double.NaN : cpu / 1e3 / measured / Math.max(count, 1));
        }

        private void park(long until) {
            for (long left = until - System.nanoTime(); left > 0 && failure.get() == null; left = until - System.nanoTime()) {
                LockSupport.parkNanos(Math.min(left, BATCH_NANOS));
            }
        }

        private Thread start(String name, Runnable body) {
            Thread thread = new Thread(() -> {
                try {
                    start.await();
                    body.run();
                } catch (RuntimeException | Error | InterruptedException | BrokenBarrierException e) {
                    failure.compareAndSet(null, e);
                }
            }, name);
            thread.setDaemon(true);
            thread.start();
            return thread;
        }

        /** The clock is read once a write: the end of one is the start of the next. */
        private void write(byte[] record, Histogram times) {
            long before = System.nanoTime();
            while (before < end && failure.get() == null) {
                log.write(record, System.currentTimeMillis());
                long after = System.nanoTime();
                if (after >= countFrom && after <= end) {
                    times.recordValue(after - before);
                }
                before = pause == 0 ? after : park(before + pause, after);
            }
        }

        /** Waits for the next write's turn; a writer that is late does not catch up. */
        private long park(long until, long now) {
            while (now < until && failure.get() == null) {
                LockSupport.parkNanos(until - now);
                now = System.nanoTime();
            }
            return now;
        }

        /** At the start, for what earlier rounds left, and then once a second. */
        private void clean() {
            for (long next = System.nanoTime(); next < end && failure.get() == null; next += BATCH_NANOS) {
                while (System.nanoTime() < next && failure.get() == null) {
                    LockSupport.parkNanos(next - System.nanoTime());
                }
                log.clean(System.currentTimeMillis() - TRAIL_MILLIS);
            }
        }
    }

    private static String hang(Thread thread) {
        StringBuilder text = new StringBuilder(thread.getName() + " hangs:");
        for (StackTraceElement element : thread.getStackTrace()) {
            text.append("\n    at ").append(element);
        }
        return text.toString();
    }
}
