package org.ferrowal.bench.rows;

import java.util.SplittableRandom;

/** Bytes of records: random, so that no layer below can make them smaller. The seed is fixed: nothing depends on it. */
public final class Payload {
    private static final long SEED = 20_230_417;

    /** The last ones that were asked for: all rows of a cell write the same. */
    private static byte[][] last = {};

    private Payload() {
    }

    /** A record for each of so many writers, none of which may change it. */
    static synchronized byte[][] shared(int size, int writers) {
        if (last.length != writers || last[0].length != size) {
            last = new byte[0][];
            byte[][] made = new byte[writers][];
            for (int i = 0; i < writers; i++) {
                made[i] = of(size, i);
            }
            last = made;
        }
        return last;
    }

    /** A record of a writer; the writers' differ. */
    public static byte[] of(int size, int writer) {
        byte[] record = new byte[size];
        new SplittableRandom(SEED + writer).nextBytes(record);
        return record;
    }
}
