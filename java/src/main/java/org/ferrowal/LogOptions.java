package org.ferrowal;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;

/**
 * How a log is opened: {@code LogOptions.in(dir, Role.RECEIVERS).memory(256 << 20)}. Immutable; each method gives a copy.
 * All options have defaults but the directory and the role. What makes no sense is refused by {@link Log#open}, by the name
 * of the method that set it.
 */
public final class LogOptions {
    /** Whose records a log holds. The two never mix, though they share a directory. */
    public enum Role {
        /**
         * One writer at a time; a new one takes over. {@link Log#scan} gives the records of the current generation: whoever means
         * to go on with the log scans it before the first append, as Spark's recovered driver does. An append to a log that
         * was not scanned is a fresh start, and begins a generation: the records before it are set aside, are never
         * scanned again, and go with the first clean that takes effect, whatever their times.
         */
        DRIVER,
        /** One writer per process. {@link Log#scan} gives the records of all of them. */
        RECEIVERS
    }

    /** What to do about damage. */
    public enum Recovery {
        /**
         * All groups are checked before a driver's log is written to, and before a scan gives its first record; any
         * corruption stops.
         */
        STRICT,
        /** A torn tail is dropped; corruption stops where it is met. */
        DEFAULT,
        /** Corrupt groups are skipped, and every one is reported. */
        SALVAGE
    }

    /** What an acknowledged record survives. */
    public enum Durability {
        /** A power cut: the record is on the device. */
        DEVICE,
        /**
         * The death of the process, by {@code kill -9} too, but no power cut and no crash of the kernel: the record is in the
         * page cache. After a power cut the log is a prefix of what was acknowledged.
         */
        OS
    }

    /** How a record is made durable on a local disk. */
    public enum Barrier {
        /** The fastest of the others, measured for a few milliseconds at the first use of a device. */
        AUTO,
        /** Through the page cache, then {@code fdatasync}. Works everywhere. */
        FDATASYNC,
        /** Past the page cache ({@code O_DIRECT}), then {@code fdatasync}. */
        DIRECT,
        /**
         * Past the page cache by writes that are durable on return ({@code O_DIRECT}, {@code RWF_DSYNC}): the only one that
         * lets several groups of records be at the device at once.
         */
        DSYNC
    }

    /** What a driver does about another one that lives, where a log's home has no lock: not in local directories. */
    public enum Takeover {
        /** It waits ({@link LogOptions#lockWait}), and fails. */
        REFUSE,
        /** It takes the log over at once; the other one's next append throws {@link LogFencedException}. */
        FORCE
    }

    /** How records are compressed. */
    public enum Compression {
        /** They are kept as they are. */
        NONE,
        /** LZ4: fast. */
        LZ4,
        /** Zstandard, with {@link LogOptions#zstdLevel}. */
        ZSTD
    }

    /** The longest time that an option takes. A grace has no bound. */
    private static final Duration YEAR = Duration.ofDays(365);
    private static final Duration SECOND = Duration.ofSeconds(1);

    private final String dir;
    private final Role role;
    private Compression compression = Compression.NONE;
    private int zstdLevel = 1;
    private boolean encrypts;
    private boolean encryptionRequired;
    /** Where keys are; may hold a key itself, so these are never shown. */
    private List<String> keys = List.of();
    private Map<String, String> store = Map.of();
    private Takeover takeover = Takeover.REFUSE;
    private Duration groupLinger = Duration.ZERO;
    private long mostPut = 64L << 20;
    private Duration summary = Duration.ZERO;
    private Recovery recovery = Recovery.DEFAULT;
    private Durability durability = Durability.DEVICE;
    private Barrier barrier = Barrier.AUTO;
    private long segmentSize = 64L << 20;
    private long memory = 64L << 20;
    private int maxFailures = 3;
    private Duration rollingInterval = Duration.ofSeconds(60);
    private Duration writeTimeout;
    private Duration cleanGrace = Duration.ofSeconds(10);
    private Duration lockWait = Duration.ofSeconds(30);
    private Duration linger = Duration.ofSeconds(10);
    private Duration idleMark = Duration.ofSeconds(1);
    private boolean spin = true;
    private boolean allowNetworkLock;
    private boolean writeAfterClose;

    private LogOptions(String dir, Role role) {
        this.dir = Objects.requireNonNull(dir, "location must be a path or a URI, not null");
        this.role = Objects.requireNonNull(role, "role must be DRIVER or RECEIVERS, not null");
        this.writeTimeout = Duration.ofSeconds(role == Role.DRIVER ? 3 : 20);
    }

    private LogOptions copy() {
        LogOptions copy = new LogOptions(dir, role);
        copy.store = store;
        copy.compression = compression;
        copy.zstdLevel = zstdLevel;
        copy.encrypts = encrypts;
        copy.encryptionRequired = encryptionRequired;
        copy.keys = keys;
        copy.takeover = takeover;
        copy.groupLinger = groupLinger;
        copy.mostPut = mostPut;
        copy.summary = summary;
        copy.recovery = recovery;
        copy.durability = durability;
        copy.barrier = barrier;
        copy.segmentSize = segmentSize;
        copy.memory = memory;
        copy.maxFailures = maxFailures;
        copy.rollingInterval = rollingInterval;
        copy.writeTimeout = writeTimeout;
        copy.cleanGrace = cleanGrace;
        copy.lockWait = lockWait;
        copy.linger = linger;
        copy.idleMark = idleMark;
        copy.spin = spin;
        copy.allowNetworkLock = allowNetworkLock;
        copy.writeAfterClose = writeAfterClose;
        return copy;
    }

    /**
     * The defaults.
     *
     * @param dir the application's directory, absolute; made when first written to, its parent must exist
     * @param role whose records
     * @return the options
     * @throws NullPointerException when an argument is null
     */
    public static LogOptions in(Path dir, Role role) {
        Objects.requireNonNull(dir, "dir must be the path of the application's directory, not null");
        return new LogOptions(dir.toString(), role);
    }

    /**
     * The defaults, for a log anywhere.
     *
     * @param location the application's directory: an absolute path, or a URI such as {@code file:///var/lib/my-app},
     *     {@code s3a://bucket/my-app}, {@code gs://bucket/my-app} or
     *     {@code abfss://container@account.dfs.core.windows.net/my-app}
     * @param role whose records
     * @return the options
     * @throws NullPointerException when an argument is null
     */
    public static LogOptions at(String location, Role role) {
        return new LogOptions(location, role);
    }

    /**
     * What a store wants to be told: its endpoint, credentials, and the like.
     *
     * @param properties by the keys of Hadoop's clients, {@code fs.s3a.endpoint} for example; those that are not known are
     *     ignored, and values are never logged
     * @return the options with them
     * @throws NullPointerException when the map, or a key or value in it, is null
     */
    public LogOptions store(Map<String, String> properties) {
        refuseNulls("properties", properties);
        LogOptions copy = copy();
        copy.store = Collections.unmodifiableMap(new TreeMap<>(properties));
        return copy;
    }

    /** Refuses a map that is null, or has a null in it, by the name of the argument that it is. */
    static void refuseNulls(String name, Map<String, String> properties) {
        Objects.requireNonNull(properties, () -> name + " must be a map, not null");
        properties.forEach((key, value) -> {
            Objects.requireNonNull(key, () -> name + " must have no null key");
            Objects.requireNonNull(value, () -> name + " must have a value for " + key + ", not null");
        });
    }

    /**
     * How records are compressed: each by itself, and only where that helps. A record is kept as it is if less than a
     * sixteenth would be saved, if it has fewer than 256 bytes, or more than 64 MiB. A log may be read, and gone on with,
     * under any setting.
     *
     * @param compression {@link Compression#NONE} by default
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions compression(Compression compression) {
        LogOptions copy = copy();
        copy.compression = Objects.requireNonNull(compression, "compression must be a Compression, not null");
        return copy;
    }

    /**
     * How hard Zstandard tries.
     *
     * @param level -7 (fast) to 22 (small, slow), also where nothing is compressed by it; 1 by default
     * @return the options with it
     */
    public LogOptions zstdLevel(int level) {
        LogOptions copy = copy();
        copy.zstdLevel = level;
        return copy;
    }

    /**
     * Encrypts records with AES-256-GCM. A key is named by where it is: {@code file:/path} (a file of 64 hex digits, white
     * space around them does not count, or of 32 bytes, not all of them ASCII), {@code env:NAME} (an environment variable of
     * 64 hex digits), or {@code hex:} and the digits themselves. The last form is for programs that have the key from
     * elsewhere; it is never logged.
     *
     * @param key the key for new records
     * @param older keys of records that are there already, to read them
     * @return the options with them
     * @throws NullPointerException when a key, or the array, is null
     */
    public LogOptions encryption(String key, String... older) {
        List<String> all = new ArrayList<>();
        all.add(Objects.requireNonNull(key, "key must say where the key is, and not be null"));
        all.addAll(places("older", older));
        LogOptions copy = copy();
        copy.encrypts = true;
        copy.keys = List.copyOf(all);
        return copy;
    }

    /**
     * Reads records that were encrypted; new ones are not.
     *
     * @param keys where the keys are, see {@link #encryption}
     * @return the options with them
     * @throws NullPointerException when a key, or the array, is null
     */
    public LogOptions decryption(String... keys) {
        LogOptions copy = copy();
        copy.encrypts = false;
        copy.keys = places("keys", keys);
        return copy;
    }

    private static List<String> places(String name, String[] keys) {
        Objects.requireNonNull(keys, () -> name + " must be an array, not null");
        for (String key : keys) {
            Objects.requireNonNull(key, () -> name + " must say where each key is, and hold no null");
        }
        return List.of(keys);
    }

    /**
     * Whether nothing is read or written without a key. A record that none of the keys authenticates is then refused by an
     * {@link UnauthenticatedRecordException}, and a log without a key to write with is not opened. Otherwise plain records
     * are read like encrypted ones, whoever wrote them.
     *
     * @param required false by default
     * @return the options with it
     */
    public LogOptions encryptionRequired(boolean required) {
        LogOptions copy = copy();
        copy.encryptionRequired = required;
        return copy;
    }

    /**
     * What a driver does about another one that lives, where a home has no lock.
     *
     * @param takeover {@link Takeover#REFUSE} by default
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions takeover(Takeover takeover) {
        LogOptions copy = copy();
        copy.takeover = Objects.requireNonNull(takeover, "takeover must be a Takeover, not null");
        return copy;
    }

    /**
     * How long a group waits for more records before it goes to an object store, where every request is paid for.
     *
     * @param time zero by default, a second at most
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions groupLinger(Duration time) {
        LogOptions copy = copy();
        copy.groupLinger = Objects.requireNonNull(time, "time must be a Duration, not null");
        return copy;
    }

    /**
     * The largest object that is written; a longer record is refused.
     *
     * @param bytes 8 MiB to 1 GiB, 64 MiB by default
     * @return the options with it
     */
    public LogOptions mostPut(long bytes) {
        LogOptions copy = copy();
        copy.mostPut = bytes;
        return copy;
    }

    /**
     * What to do about damage.
     *
     * @param recovery {@link Recovery#DEFAULT} by default
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions recovery(Recovery recovery) {
        LogOptions copy = copy();
        copy.recovery = Objects.requireNonNull(recovery, "recovery must be a Recovery, not null");
        return copy;
    }

    /**
     * What an acknowledged record survives.
     *
     * @param durability {@link Durability#DEVICE} by default
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions durability(Durability durability) {
        LogOptions copy = copy();
        copy.durability = Objects.requireNonNull(durability, "durability must be a Durability, not null");
        return copy;
    }

    /**
     * How records are made durable on a local disk. Without effect under {@link Durability#OS}.
     *
     * @param barrier {@link Barrier#AUTO} by default
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions barrier(Barrier barrier) {
        LogOptions copy = copy();
        copy.barrier = Objects.requireNonNull(barrier, "barrier must be a Barrier, not null");
        return copy;
    }

    /**
     * How often an open log says at INFO what it did: one line.
     *
     * @param every zero, the default, is never; otherwise a second to 365 days
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions summary(Duration every) {
        LogOptions copy = copy();
        copy.summary = Objects.requireNonNull(every, "every must be a Duration, not null");
        return copy;
    }

    /**
     * Full size of a segment. The first is small, and sizes double up to this.
     *
     * @param bytes 1 MiB to 1 TiB, 64 MiB by default
     * @return the options with it
     */
    public LogOptions segmentSize(long bytes) {
        LogOptions copy = copy();
        copy.segmentSize = bytes;
        return copy;
    }

    /**
     * Bound on the native memory that holds records on their way to the device; beyond it callers wait.
     *
     * @param bytes at least 16 MiB, 64 MiB by default
     * @return the options with it
     */
    public LogOptions memory(long bytes) {
        LogOptions copy = copy();
        copy.memory = bytes;
        return copy;
    }

    /**
     * Attempts for one group of records before their writers get an error.
     *
     * @param attempts at least 1, 3 by default
     * @return the options with it
     */
    public LogOptions maxFailures(int attempts) {
        LogOptions copy = copy();
        copy.maxFailures = attempts;
        return copy;
    }

    /**
     * A segment is left for a new one when a record's time is this far past its first record's.
     *
     * @param recordTime in record time, which need not be wall time; zero to 365 days, 60 s by default
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions rollingInterval(Duration recordTime) {
        LogOptions copy = copy();
        copy.rollingInterval = Objects.requireNonNull(recordTime, "recordTime must be a Duration, not null");
        return copy;
    }

    /**
     * Bound on a write that cannot proceed: a full disk, memory, failing segments.
     *
     * @param bound zero to 365 days; 3 s for a driver and 20 s for receivers by default
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions writeTimeout(Duration bound) {
        LogOptions copy = copy();
        copy.writeTimeout = Objects.requireNonNull(bound, "bound must be a Duration, not null");
        return copy;
    }

    /**
     * Subtracted from every threshold of {@link Log#clean}.
     *
     * @param recordTime in record time, not negative, 10 s by default; zero makes thresholds exact
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions cleanGrace(Duration recordTime) {
        LogOptions copy = copy();
        copy.cleanGrace = Objects.requireNonNull(recordTime, "recordTime must be a Duration, not null");
        return copy;
    }

    /**
     * How long to wait for a live owner of the log to let go of it.
     *
     * @param bound zero to 365 days, 30 s by default
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions lockWait(Duration bound) {
        LogOptions copy = copy();
        copy.lockWait = Objects.requireNonNull(bound, "bound must be a Duration, not null");
        return copy;
    }

    /**
     * Whether threads that wait for a barrier of a fast device yield their processors instead of sleeping: they are
     * sooner awake, at the price of processor time that nobody else wants.
     *
     * @param spin true by default
     * @return the options with it
     */
    public LogOptions spin(boolean spin) {
        LogOptions copy = copy();
        copy.spin = spin;
        return copy;
    }

    /**
     * Allows directories on file systems whose locks may not reach other machines: NFS, CIFS, FUSE, 9p.
     *
     * @param allow false by default
     * @return the options with it
     */
    public LogOptions allowNetworkLock(boolean allow) {
        LogOptions copy = copy();
        copy.allowNetworkLock = allow;
        return copy;
    }

    /**
     * How long files stay open after the last close, for the next instance.
     *
     * @param time zero to 365 days, 10 s by default
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions linger(Duration time) {
        LogOptions copy = copy();
        copy.linger = Objects.requireNonNull(time, "time must be a Duration, not null");
        return copy;
    }

    /**
     * Idle time after which the log marks its last record as known durable.
     *
     * @param time zero to 365 days, 1 s by default
     * @return the options with it
     * @throws NullPointerException when it is null
     */
    public LogOptions idleMark(Duration time) {
        LogOptions copy = copy();
        copy.idleMark = Objects.requireNonNull(time, "time must be a Duration, not null");
        return copy;
    }

    /**
     * Whether {@link Log#append} still works, and {@link Log#clean} does nothing, after {@link Log#close}: Spark calls
     * both then. Without it they throw {@link IllegalStateException}.
     *
     * @param allow false by default
     * @return the options with it
     */
    public LogOptions writeAfterClose(boolean allow) {
        LogOptions copy = copy();
        copy.writeAfterClose = allow;
        return copy;
    }

    /**
     * The application's directory.
     *
     * @return its path or URI
     */
    public String dir() {
        return dir;
    }

    /**
     * Whose records.
     *
     * @return the role
     */
    public Role role() {
        return role;
    }

    /**
     * What is done about damage.
     *
     * @return the policy
     */
    public Recovery recovery() {
        return recovery;
    }

    boolean writeAfterClose() {
        return writeAfterClose;
    }

    /** Refuses what is out of its range. The native side looks at the rest: the directory, the keys, what goes together. */
    void check() {
        refuse(segmentSize < 1L << 20 || segmentSize > 1L << 40, "segmentSize", "1 MiB to 1 TiB", segmentSize + " bytes");
        refuse(memory < 16L << 20, "memory", "16 MiB at least", memory + " bytes");
        refuse(mostPut < 8L << 20 || mostPut > 1L << 30, "mostPut", "8 MiB to 1 GiB", mostPut + " bytes");
        refuse(maxFailures < 1, "maxFailures", "1 at least", maxFailures);
        refuse(zstdLevel < -7 || zstdLevel > 22, "zstdLevel", "-7 to 22", zstdLevel);
        time(rollingInterval, "rollingInterval");
        time(writeTimeout, "writeTimeout");
        time(lockWait, "lockWait");
        time(linger, "linger");
        time(idleMark, "idleMark");
        refuse(cleanGrace.isNegative(), "cleanGrace", "0 or more", cleanGrace);
        refuse(isOutside(groupLinger, SECOND), "groupLinger", "0 to 1 second", groupLinger);
        boolean tooOften = !summary.isZero() && summary.compareTo(SECOND) < 0;
        refuse(tooOften || isOutside(summary, YEAR), "summary", "0, or 1 second to 365 days", summary);
    }

    private static void time(Duration time, String option) {
        refuse(isOutside(time, YEAR), option, "0 to 365 days", time);
    }

    private static boolean isOutside(Duration time, Duration most) {
        return time.isNegative() || time.compareTo(most) > 0;
    }

    private static void refuse(boolean bad, String option, String allowed, Object value) {
        if (bad) {
            throw new IllegalArgumentException(option + " must be " + allowed + ", not " + value);
        }
    }

    /** Keys and values in turn, as {@code src/jni/convert.rs} reads them. */
    String[] pairs() {
        List<String> pairs = new ArrayList<>(List.of(options()));
        pairs.addAll(List.of(pairsOf("store.", Log.handedOn(dir, store))));
        for (int i = 0; i < keys.size(); i++) {
            pairs.add(String.format("key.%04d", i));
            pairs.add(keys.get(i));
        }
        return pairs.toArray(new String[0]);
    }

    /** Keys, each behind a prefix, and values in turn. */
    static String[] pairsOf(String prefix, Map<String, String> properties) {
        List<String> pairs = new ArrayList<>();
        properties.forEach((key, value) -> {
            pairs.add(prefix + key);
            pairs.add(value);
        });
        return pairs.toArray(new String[0]);
    }

    /** What is too long for a number is as long as one can be. Only a grace may be: the others are refused. */
    private static String millis(Duration time) {
        try {
            return Long.toString(time.toMillis());
        } catch (ArithmeticException e) {
            return Long.toString(time.isNegative() ? Long.MIN_VALUE : Long.MAX_VALUE);
        }
    }

    private String[] options() {
        return new String[] {
            "dir", dir,
            "role", role.name().toLowerCase(Locale.ROOT),
            "recovery", recovery.name().toLowerCase(Locale.ROOT),
            "durability", durability.name().toLowerCase(Locale.ROOT),
            "barrier", barrier.name().toLowerCase(Locale.ROOT),
            "segmentSize", Long.toString(segmentSize),
            "memory", Long.toString(memory),
            "maxFailures", Integer.toString(maxFailures),
            "rollingInterval", millis(rollingInterval),
            "writeTimeout", millis(writeTimeout),
            "cleanGrace", millis(cleanGrace),
            "lockWait", millis(lockWait),
            "linger", millis(linger),
            "idleMark", millis(idleMark),
            "takeover", takeover.name().toLowerCase(Locale.ROOT),
            "groupLinger", millis(groupLinger),
            "mostPut", Long.toString(mostPut),
            "compression", compression.name().toLowerCase(Locale.ROOT),
            "zstdLevel", Integer.toString(zstdLevel),
            "encrypts", Boolean.toString(encrypts),
            "encryptionRequired", Boolean.toString(encryptionRequired),
            "summary", millis(summary),
            "spin", Boolean.toString(spin),
            "allowNetworkLock", Boolean.toString(allowNetworkLock)
        };
    }

    /** Directory, role and every option; of what the store is told only its keys, and of encryption only whether. */
    @Override
    public String toString() {
        StringBuilder text = new StringBuilder("LogOptions[");
        String[] pairs = options();
        for (int i = 0; i < pairs.length; i += 2) {
            text.append(i == 0 ? "" : ", ").append(pairs[i]).append('=').append(pairs[i + 1]);
        }
        return text.append(", store=").append(store.keySet()).append(']').toString();
    }
}
