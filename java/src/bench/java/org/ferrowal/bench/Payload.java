package org.ferrowal.bench;

import java.nio.ByteBuffer;
import java.util.SplittableRandom;

/** Bytes of records: random, so that no layer below can make them smaller. The seed is fixed: nothing depends on it. */
final class Payload {
    private static final long SEED = 20_230_417;

    private Payload() {
    }

    /** A record of a writer; the writers' differ. */
    static byte[] of(int size, int writer) {
        byte[] record = new byte[size];
        new SplittableRandom(SEED + writer).nextBytes(record);
        return record;
    }

    /** Fills a buffer, and leaves it ready to be written. */
    static void fill(ByteBuffer buffer) {
        buffer.clear();
        buffer.put(of(buffer.capacity(), -1));
        buffer.flip();
    }
}
