package org.ferrowal.bench;

import java.nio.file.Path;

/**
 * A row of the table: a log, or a way to use one. To add a row, implement this and add it to {@link Contenders}; what
 * runs the threads, takes the time, counts the syncs and prints knows no log by name.
 */
interface Contender {
    /** Names the row on the command line and in the CSV: lower case, no spaces. */
    String id();

    /** Names the row in the table. */
    String title();

    /** Whether the log claims that a record survives a power cut once its write has returned. */
    boolean durable();

    /** What a write does before it returns, and how the log is set up here, in a sentence or two. */
    String words();

    /**
     * Opens the log in a directory of its own, which exists and is empty.
     *
     * @throws RuntimeException if the log cannot be opened; the row then fails, visibly, and the others go on
     */
    Appender open(Path directory);

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
