package org.ferrowal.demo;

import java.nio.ByteBuffer;
import java.nio.file.Path;

import org.apache.hadoop.conf.Configuration;
import org.apache.spark.SparkConf;
import org.apache.spark.streaming.util.WriteAheadLog;
import org.apache.spark.streaming.util.WriteAheadLogUtils;

/** Opens a receiver's log the way Spark does: which one is said by the {@code spark.*} system properties. */
final class ReceiverLog {
    private static final String FERROWAL_DIR = "spark.ferrowal.dir";

    private ReceiverLog() {
    }

    /** A new instance on {@code dir}, which belongs to this log alone. */
    static WriteAheadLog open(Path dir) {
        SparkConf conf = new SparkConf();
        if (conf.contains(FERROWAL_DIR)) {
            conf.set(FERROWAL_DIR, dir.toUri().toString());
        }
        return WriteAheadLogUtils.createLogForReceiver(conf, dir.toString(), new Configuration());
    }

    static byte[] bytes(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    /** The innermost cause, in one line: what the log itself said. */
    static String reason(Throwable e) {
        Throwable cause = e;
        while (cause.getCause() != null) {
            cause = cause.getCause();
        }
        return (cause.getClass().getSimpleName() + ": " + cause.getMessage()).replace('\n', ' ');
    }
}
