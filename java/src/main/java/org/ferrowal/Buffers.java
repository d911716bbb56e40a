package org.ferrowal;

import java.nio.ByteBuffer;

/** Memory for records that are returned: owned by the garbage collector, so it outlives the log. */
final class Buffers {
    /** Records from this length on lie outside of the heap: large arrays are hard on a collector. */
    private static final int DIRECT = 64 << 10;

    private Buffers() {
    }

    /**
     * A buffer of exactly {@code length} bytes, all of it to be filled: on the heap below 64 KiB, else direct, and on the
     * heap again where the JVM's bound on direct memory is reached.
     */
    static ByteBuffer allocate(int length) {
        if (length < DIRECT) {
            return ByteBuffer.allocate(length);
        }
        try {
            return ByteBuffer.allocateDirect(length);
        } catch (OutOfMemoryError e) {
            // -XX:MaxDirectMemorySize is used up, perhaps by Spark; the heap may well have room.
            return ByteBuffer.allocate(length);
        }
    }
}
