package org.ferrowal;

import java.lang.ref.Cleaner;
import java.nio.ByteBuffer;
import java.util.concurrent.atomic.AtomicLong;

/** Memory for records that are returned: owned by the garbage collector, so it outlives the log. */
final class Buffers {
    /**
     * Records from this length on lie outside of the heap, where they are read to without another copy. An array of half of
     * G1's smallest region (1 MiB) or more, with its header, is hard on the collector; a smaller one is cheaper than memory
     * outside, even if the record is copied to it.
     */
    static final int DIRECT = (512 << 10) - 64;
    /**
     * Direct bytes that may be outstanding. Memory outside of the heap puts no pressure on the collector: without a bound
     * a task that reads many blocks would fill it up to -Xmx, which a container does not forgive.
     */
    static final long MOST_DIRECT = 64L << 20;

    private static final AtomicLong OUTSTANDING = new AtomicLong();
    private static final Cleaner CLEANER = Cleaner.create();

    private Buffers() {
    }

    /**
     * A buffer of exactly {@code length} bytes, all of it to be filled: on the heap below 512 KiB, else direct, and on the
     * heap again where 64 MiB are outstanding already or the JVM's own bound on direct memory is reached.
     */
    static ByteBuffer allocate(int length) {
        if (length < DIRECT) {
            return ByteBuffer.allocate(length);
        }
        if (OUTSTANDING.addAndGet(length) > MOST_DIRECT) {
            OUTSTANDING.addAndGet(-length);
            return ByteBuffer.allocate(length);
        }
        ByteBuffer buffer;
        try {
            buffer = ByteBuffer.allocateDirect(length);
        } catch (OutOfMemoryError e) {
            // -XX:MaxDirectMemorySize is used up, perhaps by Spark; the heap may well have room.
            OUTSTANDING.addAndGet(-length);
            return ByteBuffer.allocate(length);
        }
        // A slice or a view keeps this one reachable, so what it counts for is in use as long as they are.
        CLEANER.register(buffer, () -> OUTSTANDING.addAndGet(-length));
        return buffer;
    }

    /** Direct bytes that were handed out and not yet collected. */
    static long outstanding() {
        return OUTSTANDING.get();
    }
}
