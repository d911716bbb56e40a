package org.ferrowal.bench.rows;

import java.util.SplittableRandom;

/** Bytes of records: random, so that no layer below can make them smaller. The seed is fixed: nothing depends on it. */
public final class Payload {
    private static final long SEED = 20_230_417;

    private Payload() {
    }

    /** A record of a writer; the writers' differ. */
    public static byte[] of(int size, int writer) {
        byte[] record = new byte[size];
        new SplittableRandom(SEED + writer).nextBytes(record);
        return record;
    }
}
