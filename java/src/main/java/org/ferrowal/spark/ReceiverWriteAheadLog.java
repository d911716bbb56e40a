package org.ferrowal.spark;

import java.nio.ByteBuffer;
import java.util.Iterator;
import org.apache.spark.SparkConf;
import org.apache.spark.streaming.util.WriteAheadLog;
import org.apache.spark.streaming.util.WriteAheadLogRecordHandle;
import org.ferrowal.LogOptions;

/**
 * The receivers' log: {@code spark.streaming.receiver.writeAheadLog.class=org.ferrowal.spark.ReceiverWriteAheadLog}.
 *
 * <p>All receivers of an executor share one log below {@code spark.ferrowal.dir}; so do the instances that Spark makes
 * for each partition that it reads back. The constructor reads the configuration and creates nothing. What Spark does
 * after {@link #close} works: a write is durable, a clean does nothing, and a buffer that was read stays valid.
 */
public final class ReceiverWriteAheadLog extends WriteAheadLog {
    private final SparkLog log;

    /**
     * Called by Spark.
     *
     * @param conf the application's configuration
     * @throws IllegalArgumentException when a {@code spark.ferrowal.*} key is missing, unknown or has a bad value
     * @throws org.ferrowal.NativeLoadException when the native library cannot be loaded
     * @throws java.io.UncheckedIOException when {@code ferrowal.properties} or the file of a key cannot be read
     */
    public ReceiverWriteAheadLog(SparkConf conf) {
        log = new SparkLog(SparkOptions.of(conf, LogOptions.Role.RECEIVERS));
    }

    /** Durable when it returns. Throws RuntimeExceptions only, see {@link org.ferrowal.Log#append}. */
    @Override
    public WriteAheadLogRecordHandle write(ByteBuffer record, long time) {
        return log.write(record, time);
    }

    /**
     * The record of a handle, or, under {@code spark.ferrowal.recovery=salvage}, an empty block in place of one that is
     * proven to be damaged or was cleaned. Throws what {@link org.ferrowal.Log#read} throws.
     *
     * @throws IllegalArgumentException when the handle is not one of ferrowal's
     */
    @Override
    public ByteBuffer read(WriteAheadLogRecordHandle handle) {
        return log.read(handle);
    }

    /**
     * All records of all receivers that are not cleaned; in write order for each executor. Throws what
     * {@link org.ferrowal.Log#scan} throws, and the iterator what {@link org.ferrowal.Records} throws.
     */
    @Override
    public Iterator<ByteBuffer> readAll() {
        return log.readAll();
    }

    /**
     * Drops what is older than the threshold, less {@code spark.ferrowal.clean.grace}, and than that of three distinct cleans
     * ago. See {@link org.ferrowal.Log#clean}.
     */
    @Override
    public void clean(long threshTime, boolean waitForCompletion) {
        log.clean(threshTime, waitForCompletion);
    }

    /** Again is no error. Other instances stay open. */
    @Override
    public void close() {
        log.close();
    }

    /**
     * How many reads of this process were answered with an empty block under {@code spark.ferrowal.recovery=salvage}.
     *
     * @return the number since the process started
     */
    public static long salvagedReads() {
        return SparkLog.salvagedReads();
    }
}
