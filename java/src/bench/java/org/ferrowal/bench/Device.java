package org.ferrowal.bench;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BooleanSupplier;

import com.sun.nio.file.ExtendedOpenOption;

import org.HdrHistogram.Histogram;
import org.ferrowal.bench.rows.Cpu;
import org.ferrowal.bench.rows.Load;
import org.ferrowal.bench.rows.Payload;

/**
 * What the device does without a log: whole blocks of a file overwritten durably, over and over, with nothing checked,
 * copied or waited for.
 *
 * <p>The files were really zeroed before (written, not merely allocated) and synced, so a barrier costs the file system no
 * journal. Buffered and direct writes have a file each: the kernel would throw out the one's pages for the other. Not for
 * use by several threads.
 */
final class Device implements AutoCloseable {
    /** The unit of direct writes. */
    static final int BLOCK = 4096;

    private static final long LEAST_SPAN = 64 << 20;
    /**
     * The files are zeroed in pieces of this size. A file zeroed by writes of 4 KiB, or by one of 64 MiB, was seen to be
     * overwritten at half the rate; probably the size decides how large the page cache's folios are.
     */
    private static final int ZEROS = 1 << 20;

    /** However little time there is: a single write says nothing. */
    private static final int LEAST_WRITES = 5;

    /** What makes the bytes of a write durable. */
    enum Barrier {
        /** write, fdatasync. */
        FDATASYNC("fdatasync"),
        /** A direct write, fdatasync. */
        DIRECT_FDATASYNC("O_DIRECT + fdatasync", ExtendedOpenOption.DIRECT),
        /** A direct write that is durable when it returns. */
        DIRECT_DSYNC("O_DIRECT and O_DSYNC", ExtendedOpenOption.DIRECT, StandardOpenOption.DSYNC);

        private final String words;
        private final List<OpenOption> options;

        Barrier(String words, OpenOption... options) {
            this.words = words;
            this.options = List.of(options);
        }

        @Override
        public String toString() {
            return words;
        }

        private boolean direct() {
            return this != FDATASYNC;
        }
    }

    /**
     * A way to write.
     *
     * @param depth writes in flight, each by a thread of its own
     * @param piece bytes in a write, a multiple of {@link #BLOCK}
     * @param joined whether the writes in flight are parts of one, so that all have to be done before the next begins;
     *     otherwise each goes on by itself
     */
    record Way(Barrier barrier, int depth, int piece, boolean joined) {
        @Override
        public String toString() {
            return barrier + (depth == 1 ? "" : ", " + depth + " in flight") + (joined ? " (parts of one)" : "");
        }
    }

    /**
     * What was measured.
     *
     * @param rate writes a second; of joined writes, whole ones
     * @param nanos the time of each
     * @param cpuMicros CPU time of each, microseconds
     */
    record Measured(double rate, Histogram nanos, double cpuMicros) {
    }

    private final Map<Barrier, FileChannel> files = new EnumMap<>(Barrier.class);
    private final ByteBuffer payload;
    private final long span;
    private final AtomicLong cursor = new AtomicLong();

    /**
     * Makes the files.
     *
     * @param directory for the files; exists
     * @param largest bytes in the largest write
     */
    Device(Path directory, long largest) throws IOException {
        if (largest > 1 << 30) {
            throw new BenchException(largest + " bytes are too much for one write: at most 1 GiB");
        }
        int bytes = blocks(largest);
        payload = ByteBuffer.allocateDirect(bytes + BLOCK).alignedSlice(BLOCK).limit(bytes);
        ByteBuffer random = ByteBuffer.wrap(Payload.of(ZEROS, -1));
        while (payload.hasRemaining()) {
            payload.put(random.clear().limit(Math.min(ZEROS, payload.remaining())));
        }
        span = Math.max(LEAST_SPAN, 2L * bytes);
        zero(directory.resolve("buffered"));
        zero(directory.resolve("direct"));
        for (Barrier barrier : Barrier.values()) {
            List<OpenOption> options = new ArrayList<>(barrier.options);
            options.add(StandardOpenOption.WRITE);
            try {
                files.put(barrier, FileChannel.open(directory.resolve(barrier.direct() ? "direct" : "buffered"),
                    Set.copyOf(options)));
            } catch (IOException | UnsupportedOperationException e) {
                if (!barrier.direct()) {
                    throw e;
                }
                // Not every file system has direct writes (tmpfs had none for long): then this is no way to write here.
            }
        }
    }

    /** Whole blocks that hold so many bytes. */
    static int blocks(long bytes) {
        return (int) ((bytes + BLOCK - 1) / BLOCK * BLOCK);
    }

    /** Whether there is such a barrier on this file system. */
    boolean has(Barrier barrier) {
        return files.containsKey(barrier);
    }

    private void zero(Path path) throws IOException {
        try (FileChannel file = FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
            ByteBuffer zeros = ByteBuffer.allocateDirect(ZEROS);
            for (long at = 0; at < span; at += ZEROS) {
                zeros.clear().limit((int) Math.min(ZEROS, span - at));
                writeAll(file, zeros, at);
            }
            file.force(true);
        }
    }

    /** Writes in one way for so many seconds, or a few times if they take longer. */
    Measured measure(Way way, double seconds) throws IOException, InterruptedException {
        FileChannel file = files.get(way.barrier);
        if (way.depth == 1) {
            Histogram nanos = Load.histogram();
            long cpu = Cpu.nanos();
            long began = System.nanoTime();
            long now = loop(file, way, began + (long) (seconds * 1e9), nanos, null);
            return measured(nanos, (now - began) / 1e9, Cpu.nanos() - cpu);
        }
        List<Histogram> times = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        AtomicReference<Exception> failure = new AtomicReference<>();
        long[] ends = new long[way.depth];
        AtomicLong began = new AtomicLong();
        CyclicBarrier start = new CyclicBarrier(way.depth + 1, () -> began.set(System.nanoTime()));
        Join join = way.joined ? new Join(way.depth) : null;
        for (int i = 0; i < way.depth; i++) {
            int number = i;
            Histogram own = Load.histogram();
            // The times of joined writes are the same in all threads.
            if (!way.joined || i == 0) {
                times.add(own);
            }
            Thread thread = new Thread(() -> {
                try {
                    start.await();
                    ends[number] = loop(file, way, began.get() + (long) (seconds * 1e9), own, join);
                } catch (IOException | InterruptedException | BrokenBarrierException e) {
                    failure.compareAndSet(null, e);
                    if (join != null) {
                        join.end();
                    }
                }
            }, "bench-device-" + i);
            thread.setDaemon(true);
            thread.start();
            threads.add(thread);
        }
        long cpu = Cpu.nanos();
        try {
            start.await();
        } catch (BrokenBarrierException e) {
            throw new BenchException("the device's writers could not start", e);
        }
        long last = 0;
        for (int i = 0; i < way.depth; i++) {
            threads.get(i).join();
            last = Math.max(last, ends[i]);
        }
        cpu = Cpu.nanos() - cpu;
        if (failure.get() != null) {
            throw new IOException("the device could not be measured (" + way + ")", failure.get());
        }
        Histogram nanos = Load.histogram();
        times.forEach(nanos::add);
        return measured(nanos, (last - began.get()) / 1e9, cpu);
    }

    private static Measured measured(Histogram nanos, double seconds, long cpu) {
        long count = nanos.getTotalCount();
        return new Measured(count / seconds, nanos, cpu / 1e3 / Math.max(count, 1));
    }

    /** Returns when it ended. */
    private long loop(FileChannel file, Way way, long end, Histogram nanos, Join join) throws IOException {
        ByteBuffer bytes = payload.duplicate();
        long slots = span / way.piece;
        long before = System.nanoTime();
        int writes = 0;
        boolean more = true;
        while (more) {
            long at = cursor.getAndIncrement() % slots * way.piece;
            writeAll(file, bytes.limit(way.piece).position(0), at);
            if (way.barrier != Barrier.DIRECT_DSYNC) {
                file.force(false);
            }
            int count = ++writes;
            more = join == null ? goOn(count, end) : join.await(() -> goOn(count, end));
            long after = System.nanoTime();
            nanos.recordValue(after - before);
            before = after;
        }
        return before;
    }

    private static boolean goOn(int writes, long end) {
        return writes < LEAST_WRITES || System.nanoTime() < end;
    }

    /** Where the parts of a write wait for each other: they spin, since to park would cost more than a write. */
    private static final class Join {
        private final int parties;
        private final AtomicInteger arrived = new AtomicInteger();
        private volatile int round;
        private volatile boolean more = true;

        Join(int parties) {
            this.parties = parties;
        }

        /** The last one to come decides whether there is another round. */
        boolean await(BooleanSupplier decide) {
            int mine = round;
            if (arrived.incrementAndGet() == parties) {
                arrived.set(0);
                more &= decide.getAsBoolean();
                round = mine + 1;
            } else {
                for (int spins = 0; round == mine && more; spins++) {
                    if (spins < 1000) {
                        Thread.onSpinWait();
                    } else {
                        Thread.yield();
                    }
                }
            }
            return more;
        }

        /** Lets everybody go. */
        void end() {
            more = false;
        }
    }

    private static void writeAll(FileChannel file, ByteBuffer bytes, long at) throws IOException {
        long offset = at - bytes.position();
        while (bytes.hasRemaining()) {
            file.write(bytes, offset + bytes.position());
        }
    }

    @Override
    public void close() throws IOException {
        for (FileChannel file : files.values()) {
            file.close();
        }
    }

    /** Whether a directory lies in memory: nothing measured there says anything about a device. */
    static boolean isMemory(Path directory) throws IOException {
        String type = Files.getFileStore(directory).type();
        return type.equals("tmpfs") || type.equals("ramfs");
    }
}
