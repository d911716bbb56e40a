package org.ferrowal.bench.rows;

import java.nio.file.Path;

/** No log: what the harness itself could count. Shows that its own cost is small beside any row. */
final class Nothing implements JvmLog {
    @Override
    public String id() {
        return "nothing";
    }

    @Override
    public String title() {
        return "nothing (the harness's own limit)";
    }

    @Override
    public boolean durable() {
        return false;
    }

    @Override
    public String words() {
        return "A write that does nothing.";
    }

    @Override
    public Appender open(Path directory, int size) {
        return new Appender() {
            @Override
            public void write(byte[] record, long time) {
                // Nothing.
            }

            @Override
            public void clean(long threshold) {
                // Nothing.
            }

            @Override
            public void close() {
                // Nothing.
            }
        };
    }
}
