package org.ferrowal.bench.rows;

import java.nio.file.Path;

import org.HdrHistogram.Histogram;

/**
 * A row of the table: a log, or a way to use one. To add a row, implement this (a log in this JVM: {@link JvmLog}) and add
 * it to {@link Contenders}; what takes the time, counts the syncs and prints knows no log by name.
 */
public interface Contender {
    /** Names the row on the command line and in the CSV: lower case, no spaces. */
    String id();

    /** Names the row in the table. */
    String title();

    /** Whether the log claims that a record survives a power cut once its write has returned. */
    boolean durable();

    /** What a write does before it returns, and how the log is set up here, in a sentence or two. */
    String words();

    /**
     * Seconds that the round which is not counted has at least: until a log that uses its files again does so. Before that
     * it writes every byte twice, once as a zero.
     */
    default double warmUp() {
        return 0;
    }

    /**
     * Opens the log in a directory of its own, which exists and is empty, for rounds of one kind.
     *
     * @param size bytes in a record
     * @param threads threads that write at once
     * @throws RuntimeException if the log cannot be opened as the row says; the row then fails, visibly, and the others
     *     go on
     */
    Session open(Path directory, int size, int threads);

    /** An open log with its writers. Not for use by several threads. */
    interface Session extends AutoCloseable {
        /**
         * Lets all threads write, again and again, as fast as the log lets them. The log is cleaned once a second
         * meanwhile, as Spark does with batches of that length.
         *
         * @param ramp seconds at the start that do not count
         * @param seconds the rest; a write counts if it returned within it
         * @throws RuntimeException if a write or a clean failed, or one hangs
         */
        Round round(double ramp, double seconds) throws InterruptedException;

        /**
         * Writes so many records, one after the other, from one thread.
         *
         * @throws RuntimeException if the log could not write one
         */
        void write(int records);

        /** Lets go of everything. The files stay. */
        @Override
        void close();
    }

    /**
     * What a round came to.
     *
     * @param rate records a second, of all threads together
     * @param nanos the time of each write that counted
     * @param cpuMicros CPU time of the whole process a record, microseconds: with the writers' own, garbage collection and
     *     compilation where it is a JVM; NaN where it could not be measured
     */
    record Round(double rate, Histogram nanos, double cpuMicros) {
    }
}
