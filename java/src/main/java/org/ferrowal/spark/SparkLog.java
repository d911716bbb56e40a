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
import org.ferrowal.RecordLocation;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What the two log classes have in common: a {@link Log}, Spark's handles, and what salvage means to Spark. */
final class SparkLog {
    private static final Logger LOG = LoggerFactory.getLogger("org.ferrowal");
    private static final AtomicLong SALVAGED = new AtomicLong();

    private final SparkOptions options;
    private final Log log;
    /** Whether handles say where their blocks are. Spark's class, of which they are, is loaded only then. */
    private final boolean placed;

    SparkLog(SparkOptions options) {
        this.options = options;
        this.log = Log.open(options.log());
        String dir = options.log().dir();
        this.placed = dir.regionMatches(true, 0, "hdfs://", 0, 7)
            && options.log().role() == LogOptions.Role.RECEIVERS;
    }

    static long salvagedReads() {
        return SALVAGED.get();
    }

    void check() {
        log.check();
    }

    WriteAheadLogRecordHandle write(ByteBuffer record, long time) {
        RecordLocation location = log.append(record, time);
        // Spark asks where a block's bytes are for such handles alone; the driver's are read by no task.
        return placed ? new HdfsRecordHandle(options.log().dir(), location) : new FerrowalRecordHandle(location);
    }

    ByteBuffer read(WriteAheadLogRecordHandle handle) {
        RecordLocation location;
        if (handle instanceof FerrowalRecordHandle) {
            location = ((FerrowalRecordHandle) handle).location();
        } else if (handle instanceof HdfsRecordHandle) {
            // Wherever the log is now: its directory may have been moved out of HDFS since.
            location = ((HdfsRecordHandle) handle).location();
        } else {
            throw new IllegalArgumentException("not a handle of ferrowal's: "
                + (handle == null ? "null" : handle.getClass().getName())
                + "; was the log's class changed after the checkpoint was made?");
        }
        try {
            return log.read(location);
        } catch (CorruptRecordException | RecordGoneException e) {
            return salvaged(handle, e);
        }
    }

    /** In place of a block that is proven to be lost: an empty one, so that one block does not stop the application. */
    private ByteBuffer salvaged(WriteAheadLogRecordHandle handle, LogException why) {
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
