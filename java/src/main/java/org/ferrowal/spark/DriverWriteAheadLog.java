package org.ferrowal.spark;

import java.nio.ByteBuffer;
import java.util.Iterator;
import org.apache.spark.SparkConf;
import org.apache.spark.streaming.util.WriteAheadLog;
import org.apache.spark.streaming.util.WriteAheadLogRecordHandle;
import org.ferrowal.LogOptions;

/**
 * The driver's log: {@code spark.streaming.driver.writeAheadLog.class=org.ferrowal.spark.DriverWriteAheadLog}.
 *
 * <p>Spark makes one when a streaming context starts, and turns later errors of it into warnings. So the constructor
 * looks at what can be known early and fails then, with a message that says what to do; it creates nothing. A previous
 * driver that still holds the log is waited for ({@code spark.ferrowal.lock.wait}).
 */
public final class DriverWriteAheadLog extends WriteAheadLog {
    private final SparkLog log;

    /**
     * Called by Spark.
     *
     * @param conf the application's configuration
     * @throws IllegalArgumentException when a {@code spark.ferrowal.*} key is missing, unknown or has a bad value
     * @throws org.ferrowal.LogLockedException when another live driver holds the log
     * @throws org.ferrowal.CorruptRecordException when the log is damaged, but under {@code spark.ferrowal.recovery=salvage}
     * @throws org.ferrowal.MissingLogException when the log's uuid is damaged
     * @throws org.ferrowal.NativeLoadException when the native library cannot be loaded
     * @throws java.io.UncheckedIOException when a file, the file system or the store cannot be read
     */
    public DriverWriteAheadLog(SparkConf conf) {
        log = new SparkLog(SparkOptions.of(conf, LogOptions.Role.DRIVER));
        try {
            log.check();
        } catch (RuntimeException e) {
            log.close();
            throw e;
        }
    }

    /** Durable when it returns. Throws RuntimeExceptions only, see {@link org.ferrowal.Log#append}. */
    @Override
    public WriteAheadLogRecordHandle write(ByteBuffer record, long time) {
        return log.write(record, time);
    }

    /**
     * The record of a handle. Spark does not read the driver's log this way. Throws what {@link org.ferrowal.Log#read} throws.
     *
     * @throws IllegalArgumentException when the handle is not one of ferrowal's
     */
    @Override
    public ByteBuffer read(WriteAheadLogRecordHandle handle) {
        return log.read(handle);
    }

    /**
     * All records of this application's life that are not cleaned, in write order. Throws what {@link org.ferrowal.Log#scan}
     * throws, and the iterator what {@link org.ferrowal.Records} throws.
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

    /** Again is no error. */
    @Override
    public void close() {
        log.close();
    }
}
