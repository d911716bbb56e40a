package org.ferrowal;

import java.io.IOException;
import java.io.StringReader;
import java.io.UncheckedIOException;
import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * A write-ahead log. When {@link #append} returns, the record survives a power cut; it comes back unaltered by location
 * and in write order until it is cleaned; damage is never returned as data, nor passed over in silence.
 *
 * <pre>{@code
 * try (Log log = Log.open(LogOptions.in(Path.of("/var/lib/my-app/log"), LogOptions.Role.RECEIVERS))) {
 *     RecordLocation location = log.append(record, System.currentTimeMillis());
 *     ByteBuffer same = log.read(location);
 * }
 * }</pre>
 *
 * <p>Opening is cheap and creates nothing: that happens at the first append. Instances of one directory and role in one
 * process share what is open. All methods may be called from any thread at any time; those that reach storage block, and
 * do not heed interrupts.
 */
public final class Log implements AutoCloseable {
    private static final Cleaner CLEANER = Cleaner.create();

    /** One array per thread, so that an append allocates nothing but its location. */
    private static final ThreadLocal<long[]> HANDLE = ThreadLocal.withInitial(() -> new long[Native.HANDLE_LONGS]);

    /** The native side's number of this log. */
    final long id;
    private final LogOptions options;
    private final AtomicBoolean closed;
    private final Cleaner.Cleanable cleanable;

    private Log(LogOptions options, long id) {
        this.options = options;
        this.id = id;
        this.closed = new AtomicBoolean();
        Leak leak = new Leak(id, options.dir() + " (" + options.role() + ")", closed);
        this.cleanable = CLEANER.register(this, leak);
    }

    /** Forgets the native side's log; the net for a log that nobody closed. Must not refer to the {@link Log}. */
    private record Leak(long id, String name, AtomicBoolean closed) implements Runnable {
        @Override
        public void run() {
            try {
                if (!closed.get()) {
                    NativeLog.warn("the log " + name + " was collected and never closed: closing it now");
                    Native.close(id);
                }
            } finally {
                Native.forget(id);
            }
        }
    }

    /**
     * Opens a log. Loads the native library where that has not happened yet, checks the options, and looks at nothing
     * else.
     *
     * @param options how
     * @return the log
     * @throws IllegalArgumentException when an option makes no sense, or does not go with those of an instance that is open
     * @throws NullPointerException when the options are null
     * @throws UncheckedIOException when the file of a key cannot be read, or Hadoop does not say which user this is
     * @throws NativeLoadException when the native library cannot be loaded
     */
    public static Log open(LogOptions options) {
        Objects.requireNonNull(options, "options must be LogOptions, not null");
        options.check();
        NativeLibrary.load();
        try {
            return new Log(options, Native.open(options.pairs()));
        } finally {
            NativeLog.drain();
        }
    }

    /**
     * The operator's overrides for a directory: the entries of its {@code ferrowal.properties}. Changes nothing.
     *
     * @param dir an application's directory, its path or URI; need not exist
     * @param store as in {@link LogOptions#store}
     * @return keys and values, empty where there is no such file
     * @throws UncheckedIOException when the file is there and cannot be read, or Hadoop does not say which user this is
     * @throws IllegalArgumentException when the file is not a properties file, or the directory or a key of the store makes no
     *     sense
     * @throws NullPointerException when an argument, or a key or value of the store, is null
     * @throws NativeLoadException when the native library cannot be loaded
     */
    public static Map<String, String> overrides(String dir, Map<String, String> store) {
        Objects.requireNonNull(dir, "dir must be a path or a URI, not null");
        LogOptions.refuseNulls("store", store);
        NativeLibrary.load();
        byte[] bytes = Native.overrides(dir, LogOptions.pairsOf("", handedOn(dir, store)));
        Map<String, String> entries = new TreeMap<>();
        if (bytes != null) {
            Properties properties = new Properties();
            try {
                properties.load(new StringReader(new String(bytes, StandardCharsets.UTF_8)));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            } catch (IllegalArgumentException e) {
                String file = dir + (dir.endsWith("/") ? "" : "/") + "ferrowal.properties";
                throw new IllegalArgumentException(file + " is not a valid properties file: " + e.getMessage(), e);
            }
            properties.stringPropertyNames().forEach(key -> entries.put(key, properties.getProperty(key).trim()));
        }
        return entries;
    }

    /**
     * What the native side is told of a store. HDFS is reached by Hadoop's own client, in this JVM, which keeps its keys for
     * itself; nothing of it is loaded for any other directory.
     */
    static Map<String, String> handedOn(String dir, Map<String, String> store) {
        // A NUL character is refused by the native side, as in all other places; Hadoop would say less of it.
        if (!dir.regionMatches(true, 0, "hdfs:", 0, 5) || dir.indexOf('\0') >= 0) {
            return store;
        }
        try {
            Map<String, String> handedOn = HadoopRoot.handedOn(dir, store);
            HadoopThreads.start();
            return handedOn;
        } catch (NoClassDefFoundError e) {
            throw new IllegalArgumentException(dir + " needs Hadoop's client (hadoop-client-api and -runtime) on the class"
                + " path: Spark brings it; " + e.getMessage() + " was not found", e);
        }
    }

    /**
     * Looks at what can be known early, and creates nothing: whether the directory could be made or written to, and
     * whether a live owner elsewhere holds the log, for which it waits.
     *
     * @throws LogLockedException when the owner does not let go in time
     * @throws CorruptRecordException when a driver's log is damaged, but under {@link LogOptions.Recovery#SALVAGE}
     * @throws MissingLogException when the log's uuid is damaged
     * @throws IllegalArgumentException when the directory can hold no log: its parent is not there, it is no directory, its
     *     file system is not allowed ({@link LogOptions#allowNetworkLock}), or a newer release wrote to it
     * @throws UncheckedIOException when the file system or the store refuses
     * @throws IllegalStateException when the log is closed
     */
    public void check() {
        open();
        try {
            Native.check(id);
        } finally {
            Reference.reachabilityFence(this);
            NativeLog.drain();
        }
    }

    /**
     * Appends one record. It is durable when this returns. The first append opens the log for writing, and may throw what
     * {@link #check} throws as well.
     *
     * @param record the bytes from position to limit, 0 to 2^31-1 of them; any kind of buffer; its position and limit
     *     stay, and it may be used again once this has returned or thrown
     * @param time the record's time in milliseconds, for {@link #clean}
     * @return where it lies
     * @throws StorageFullException when the volume is full for longer than the write's bound, or too full to open the log for
     *     writing
     * @throws WriteTimeoutException when there was no memory for the record within the write's
     *     bound; nothing of it was written
     * @throws LogFencedException when another driver has taken over: this one will never write again; a local
     *     directory, whose lock excludes other writers, does not give it
     * @throws LogLockedException when another live owner holds the log
     * @throws CorruptRecordException when the log cannot be opened for writing, for the damage that is in it
     * @throws MissingLogException when the log's uuid is damaged, or gone from beside its segments, or when the directory or its
     *     lock was deleted, moved or replaced while the log was open
     * @throws MissingKeyException when encryption is required, and records are encrypted with a key that was not given
     * @throws UnauthenticatedRecordException when encryption is required, and no key authenticates what is in the log
     * @throws NativePanicException when a defect was met, now or in an earlier call; the log takes no more writes until it is
     *     opened again
     * @throws IllegalArgumentException when the record is longer than the log's home takes, or the directory can hold no log
     * @throws UncheckedIOException when the device refuses
     * @throws IllegalStateException when the log is closed, unless {@link LogOptions#writeAfterClose} allows it
     * @throws NullPointerException when the record is null
     */
    public RecordLocation append(ByteBuffer record, long time) {
        Objects.requireNonNull(record, "record must be a ByteBuffer, not null");
        if (!options.writeAfterClose()) {
            open();
        }
        int position = record.position();
        int length = record.limit() - position;
        long[] handle = HANDLE.get();
        try {
            if (record.hasArray()) {
                Native.append(id, record.array(), record.arrayOffset() + position, length, time, handle);
            } else if (record.isDirect()) {
                Native.appendDirect(id, record, position, length, time, handle);
            } else {
                // A read-only buffer on the heap hides its array. One copy of it in whole, for the time of the call: the
                // record is on the heap already, so this at most doubles it; in pieces it would be copied twice as well,
                // and each piece would be a call back into the JVM.
                byte[] copy = new byte[length];
                record.duplicate().get(copy);
                Native.append(id, copy, 0, length, time, handle);
            }
            return RecordLocation.of(handle);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Reads one record.
     *
     * @param location where it lies
     * @return the record: position 0, limit its length. The buffer owns its memory, and stays valid after {@link #close}
     * @throws CorruptRecordException when the bytes no longer check
     * @throws RecordGoneException when it was cleaned
     * @throws MissingLogException when it is not there, and nothing proves that it was cleaned
     * @throws MissingKeyException when it is encrypted with a key that was not given
     * @throws UnauthenticatedRecordException when encryption is required, and no key authenticates it
     * @throws ForeignLogException when the location is of another log
     * @throws UncheckedIOException when the device refuses
     * @throws IllegalStateException when the log is closed
     * @throws NullPointerException when the location is null
     */
    public ByteBuffer read(RecordLocation location) {
        Objects.requireNonNull(location, "location must be what append returned, not null");
        open();
        long[] handle = HANDLE.get();
        location.to(handle);
        try {
            // The length is the caller's word until the log has looked: no memory is taken for it before.
            Native.locate(id, handle);
            ByteBuffer buffer = Buffers.allocate(location.length());
            if (buffer.isDirect()) {
                Native.readDirect(id, handle, buffer);
            } else {
                Native.read(id, handle, buffer.array());
            }
            return buffer;
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * All records written and not cleaned, in write order, read as they are asked for. Receivers' come writer by writer, in the
     * order in which these began by the clocks of their machines. Damage is met there: by
     * {@link Records#hasNext}, under {@link LogOptions.Recovery#STRICT} by its first call.
     *
     * @return the records; close them unless they are used up
     * @throws MissingLogException when the log's uuid is damaged, or gone from beside its segments, or when the directory or its
     *     lock was deleted, moved or replaced while the log was open
     * @throws UncheckedIOException when the directory cannot be read
     * @throws IllegalStateException when the log is closed
     */
    public Records scan() {
        open();
        try {
            return new Records(Native.scan(id), CLEANER);
        } finally {
            Reference.reachabilityFence(this);
            NativeLog.drain();
        }
    }

    /**
     * Drops records whose time is below the effective threshold: the lesser of the threshold less the grace
     * ({@link LogOptions#cleanGrace}) and the threshold of three distinct cleans ago. So a threshold takes effect only once
     * three larger ones have followed it: the first three cleans after an opening drop what was to go before, which the log
     * remembers, and no more, also with {@code wait}. With a grace of zero the threshold takes effect exactly, and at once.
     *
     * @param threshold in record time, milliseconds
     * @param wait whether to return only when that has happened; otherwise this returns at once. Who waits has the log opened
     *     for writing where it is not, and may get what the first {@link #append} throws
     * @throws UncheckedIOException with {@code wait}, when the file system or the store keeps segments from being removed
     * @throws IllegalStateException when the log is closed, unless {@link LogOptions#writeAfterClose} is set: then this does
     *     nothing
     */
    public void clean(long threshold, boolean wait) {
        if (options.writeAfterClose() && closed.get()) {
            return;
        }
        open();
        try {
            Native.clean(id, threshold, wait);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * What recovery found when the log was opened.
     *
     * @return the report; empty before the log's first use
     * @throws IllegalStateException when the log is closed
     */
    public Optional<RecoveryReport> report() {
        open();
        try {
            return Optional.ofNullable(Native.report(id)).map(RecoveryReport::of);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Lets go of everything. Calls in progress finish; instances that share the directory stay open; buffers that were
     * read stay valid. Again is no error.
     */
    @Override
    public void close() {
        if (!closed.compareAndSet(false, true)) {
            return;
        }
        try {
            Native.close(id);
        } finally {
            // A log that takes writes after its close keeps its id for as long as it can be called.
            if (!options.writeAfterClose()) {
                cleanable.clean();
            }
            Reference.reachabilityFence(this);
            NativeLog.drainAtEnd();
        }
    }

    private void open() {
        if (closed.get()) {
            throw new IllegalStateException("the log " + options.dir() + " is closed");
        }
    }

    /** Directory and role. */
    @Override
    public String toString() {
        return "Log[" + options.dir() + ", " + options.role() + "]";
    }
}
