package org.ferrowal;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;

/**
 * The native methods, as {@code src/jni/entry.rs} has them. Ids are numbers of open logs and scans; a stale one is an
 * {@link IllegalStateException}. A handle is eight longs, see {@link RecordLocation}. All of them may be called from any
 * thread, and those that touch storage block.
 */
final class Native {
    /** Raised whenever a method here, or the meaning of a number, changes. */
    static final int ABI = 5;

    /** Longs of a handle. */
    static final int HANDLE_LONGS = 8;

    private Native() {
    }

    static native int abi();

    /** Remembers this class for {@link #failure} and starts to keep log lines from {@code level} on (1 ERROR … 5 TRACE). */
    static native void init(int level);

    static native long open(String[] keysAndValues);

    static native void check(long id);

    static native void append(long id, byte[] array, int offset, int length, long time, long[] handle);

    static native void appendDirect(long id, ByteBuffer buffer, int position, int length, long time, long[] handle);

    static native void locate(long id, long[] handle);

    static native void read(long id, long[] handle, byte[] into);

    static native void readDirect(long id, long[] handle, ByteBuffer into);

    static native long scan(long id);

    /** The next record's length, -1 at the end. */
    static native int scanNext(long scan);

    static native void scanTake(long scan, byte[] into);

    static native void scanTakeDirect(long scan, ByteBuffer into);

    static native void scanClose(long scan);

    static native void clean(long id, long threshold, boolean wait);

    /** Closes; the id stays known until {@link #forget}, for writes that come later. */
    static native void close(long id);

    static native void forget(long id);

    /** Null before the first use. */
    static native String[] report(long id);

    /** Null where there is none. */
    static native byte[] overrides(String dir, String[] storeKeysAndValues);

    /** Name, kind, unit and meaning of each metric, in turn; the same for all logs. */
    static native String[] metricList();

    /** The values now, in the order of the list; {@code role} is the ordinal of the enum. */
    static native void metrics(int role, long[] into);

    static native void setLogLevel(int level);

    /** Waits for a log line. Whether there is one. */
    static native boolean awaitLog(long millis);

    /** Level and text of the oldest line, or null. */
    static native String[] takeLog();

    /** Runs the program with these arguments; gives its exit code. What it prints goes to the process's own output. */
    static native int tool(String[] args);

    /** Says that threads will take jobs, so that the native side may wait for them. */
    static native void serveJobs();

    /** The two paths of a lane's oldest call of Hadoop's client; null if none comes in time. See {@link HadoopThreads}. */
    static native String[] takeJob(int lane, long millis, long[] numbers);

    /** What a job writes, from {@code at} on. How many bytes; -1 if nobody waits for the job any more. */
    static native int jobBytes(long job, long at, byte[] into);

    /** Hands over what was read for a job. Whether somebody still waits for it. */
    static native boolean jobFill(long job, long at, byte[] from, int length);

    /** Answers a job. Whether somebody still waited for it. */
    static native boolean jobAnswer(long job, int kind, String message, long number, String[] names);

    /**
     * What a record of Spark's driver says: "yes" and lines for people, or "no" and why nothing can be said of any. The
     * native side asks while {@link #tool} runs, and gets no exception.
     */
    @SuppressWarnings("unused") // called by the native side alone
    private static String[] readable(byte[] record) {
        try {
            return new String[] {"yes", SparkEvents.readable(record)};
        } catch (RuntimeException | LinkageError e) {
            return new String[] {"no", String.valueOf(e.getMessage())};
        }
    }

    /** Makes the exception of a failure; the native side throws it. The kinds are those of {@code src/jni/error.rs}. */
    @SuppressWarnings("unused") // called by the native side alone
    private static RuntimeException failure(int kind, String message, long first, long second) {
        switch (kind) {
            case 1:
                return new UncheckedIOException(message, new IOException(message));
            case 2:
                return new StorageFullException(message);
            case 3:
                return new LogLockedException(message);
            case 4:
                return new LogFencedException(message);
            case 5:
                return new CorruptRecordException(message, first, second);
            case 6:
                return new RecordGoneException(message);
            case 7:
                return new MissingLogException(message);
            case 8:
                return new ForeignLogException(message);
            case 9:
                return new IllegalArgumentException(message);
            case 10:
                return new IllegalStateException(message);
            case 11:
                return new WriteTimeoutException(message);
            case 12:
                return new NativePanicException(message);
            case 14:
                return new MissingKeyException(message);
            case 15:
                return new UnauthenticatedRecordException(message);
            default:
                return new LogException(message);
        }
    }
}
