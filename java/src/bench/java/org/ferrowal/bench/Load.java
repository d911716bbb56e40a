package org.ferrowal.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;

import org.HdrHistogram.Histogram;

/**
 * One round over an open log: each thread writes its record again and again, as fast as the log lets it, while the log is
 * cleaned once a second as Spark does with batches of that length.
 *
 * <p>The first part of a round is not counted. A write counts if it returned within the rest.
 */
final class Load {
    /** Spark's threshold trails the clock by one or two batches of a second. */
    private static final long TRAIL_MILLIS = 2_000;
    private static final long BATCH_NANOS = TimeUnit.SECONDS.toNanos(1);
    /** A write that takes longer is a hang: beyond Spark's own 30 s for a receiver's block. */
    private static final long HANG_MILLIS = 60_000;

    private final Contender.Appender log;
    private final int size;
    private final int threads;
    private final double ramp;
    private final double seconds;
    private final AtomicReference<Throwable> failure = new AtomicReference<>();
    private long countFrom;
    private long end;

    Load(Contender.Appender log, int size, int threads, double ramp, double seconds) {
        this.log = log;
        this.size = size;
        this.threads = threads;
        this.ramp = ramp;
        this.seconds = seconds;
    }

    /**
     * Runs it.
     *
     * @param nanos gets the time of each write that counted
     * @return records a second
     * @throws BenchException if a write or a clean failed, or one hangs
     */
    double run(Histogram nanos) throws InterruptedException {
        CyclicBarrier start = new CyclicBarrier(threads + 1, () -> {
            countFrom = System.nanoTime() + (long) (ramp * 1e9);
            end = countFrom + (long) (seconds * 1e9);
        });
        List<Histogram> times = new ArrayList<>();
        List<Thread> workers = new ArrayList<>();
        for (int i = 0; i < threads; i++) {
            byte[] record = Payload.of(size, i);
            Histogram own = Sample.histogram();
            times.add(own);
            workers.add(start("bench-writer-" + i, start, () -> write(record, own)));
        }
        Thread cleaner = start("bench-cleaner", start, this::clean);
        workers.add(cleaner);
        for (Thread worker : workers) {
            worker.join((long) ((ramp + seconds) * 1e3) + HANG_MILLIS);
            if (worker.isAlive()) {
                throw new BenchException(hang(worker));
            }
        }
        if (failure.get() != null) {
            throw new BenchException(failure.get().toString(), failure.get());
        }
        times.forEach(nanos::add);
        return nanos.getTotalCount() / seconds;
    }

    private Thread start(String name, CyclicBarrier start, Runnable body) {
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

    private void write(byte[] record, Histogram times) {
        long before = System.nanoTime();
        while (before < end && failure.get() == null) {
            log.write(record, System.currentTimeMillis());
            long after = System.nanoTime();
            if (after >= countFrom && after <= end) {
                times.recordValue(after - before);
            }
            before = after;
        }
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

    private static String hang(Thread thread) {
        StringBuilder text = new StringBuilder(thread.getName() + " hangs:");
        for (StackTraceElement element : thread.getStackTrace()) {
            text.append("\n    at ").append(element);
        }
        return text.toString();
    }
}
