package org.ferrowal.spark;

import java.nio.ByteBuffer;
import java.util.Iterator;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.spark.streaming.util.WriteAheadLogRecordHandle;
import org.ferrowal.CorruptRecordException;
import org.ferrowal.Log;
import org.ferrowal.LogException;
import org.ferrowal.LogOptions;
import org.ferrowal.RecordGoneException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What the two log classes have in common: a {@link Log}, Spark's handles, and what salvage means to Spark. */
final class SparkLog {
    private static final Logger LOG = LoggerFactory.getLogger("org.ferrowal");
    private static final AtomicLong SALVAGED = new AtomicLong();

    private final SparkOptions options;
    private final Log log;

    SparkLog(SparkOptions options) {
        this.options = options;
        this.log = Log.open(options.log());
    }

    static long salvagedReads() {
        return SALVAGED.get();
    }

    void check() {
        log.check();
    }

    WriteAheadLogRecordHandle write(ByteBuffer record, long time) {
        return new FerrowalRecordHandle(log.append(record, time));
    }

    ByteBuffer read(WriteAheadLogRecordHandle handle) {
        if (!(handle instanceof FerrowalRecordHandle)) {
            throw new IllegalArgumentException("not a handle of ferrowal's: "
                + (handle == null ? "null" : handle.getClass().getName())
                + "; was the log's class changed after the checkpoint was made?");
        }
        FerrowalRecordHandle ours = (FerrowalRecordHandle) handle;
        try {
            return log.read(ours.location());
        } catch (CorruptRecordException | RecordGoneException e) {
            return salvaged(ours, e);
        }
    }

    /** In place of a block that is proven to be lost: an empty one, so that one block does not stop the application. */
    private ByteBuffer salvaged(FerrowalRecordHandle handle, LogException why) {
        if (options.log().recovery() != LogOptions.Recovery.SALVAGE) {
            throw why;
        }
        byte[] empty = options.emptyBlock();
        if (empty == null) {
            LOG.error("cannot salvage {}: no empty block is known for spark.serializer={}", handle,
                options.serializer());
            throw why;
        }
        LOG.error("the block {} is lost, and an empty one is returned in its place (spark.ferrowal.recovery=salvage;"
            + " {} so far in this process)", handle, SALVAGED.incrementAndGet(), why);
        return ByteBuffer.wrap(empty);
    }

    Iterator<ByteBuffer> readAll() {
        return log.scan();
    }

    void clean(long threshold, boolean wait) {
        log.clean(threshold, wait);
    }

    void close() {
        log.close();
    }
}
