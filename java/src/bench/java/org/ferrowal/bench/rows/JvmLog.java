package org.ferrowal.bench.rows;

import java.nio.file.Path;

/** A log that runs in this JVM. */
public interface JvmLog extends Contender {
    /**
     * Opens the log in a directory of its own, which exists and is empty.
     *
     * @param size bytes in the largest record, for logs whose settings must know
     * @throws RuntimeException if the log cannot be opened as the row says
     */
    Appender open(Path directory, int size);

    @Override
    default Session open(Path directory, int size, int threads) {
        return open(directory, size, threads, 0);
    }

    /**
     * The same with writers that keep to a rate. What they wait for it is in no write's time.
     *
     * @param perSecond records a second of each writer; 0 for as many as it can
     */
    default Session open(Path directory, int size, int threads, double perSecond) {
        return new Load(open(directory, size), size, threads, perSecond);
    }

    /** An open log. All but {@link #close} may be called by any number of threads at once. */
    interface Appender extends AutoCloseable {
        /**
         * Writes one record; returns when the log says that it is written.
         *
         * @param record the payload; the log must neither change nor keep it
         * @param time the record's time in milliseconds, as Spark's clock would give it
         * @throws RuntimeException if the log could not write it
         */
        void write(byte[] record, long time);

        /** Drops records older than {@code threshold} (milliseconds), in the background, as after each batch of Spark's. */
        void clean(long threshold);

        /** Lets go of everything. The files stay. */
        @Override
        void close();
    }
}
