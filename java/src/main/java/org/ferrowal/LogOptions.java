package org.ferrowal;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Locale;
import java.util.Objects;

/**
 * How a log is opened: {@code LogOptions.in(dir, Role.RECEIVERS).memory(256 << 20)}. Immutable; each method gives a copy.
 * All options have defaults but the directory and the role. What makes no sense is refused by {@link Log#open}.
 */
public final class LogOptions {
    /** Whose records a log holds. The two never mix, though they share a directory. */
    public enum Role {
        /** One writer at a time; a new one takes over. {@link Log#scan} gives the records of the current generation. */
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

    private final Path dir;
    private final Role role;
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
    private boolean allowNetworkLock;
    private boolean writeAfterClose;

    private LogOptions(Path dir, Role role) {
        this.dir = Objects.requireNonNull(dir, "dir");
        this.role = Objects.requireNonNull(role, "role");
        this.writeTimeout = Duration.ofSeconds(role == Role.DRIVER ? 3 : 20);
    }

    private LogOptions copy() {
        LogOptions copy = new LogOptions(dir, role);
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
     */
    public static LogOptions in(Path dir, Role role) {
        return new LogOptions(dir, role);
    }

    /**
     * What to do about damage.
     *
     * @param recovery {@link Recovery#DEFAULT} by default
     * @return the options with it
     */
    public LogOptions recovery(Recovery recovery) {
        LogOptions copy = copy();
        copy.recovery = Objects.requireNonNull(recovery, "recovery");
        return copy;
    }

    /**
     * What an acknowledged record survives.
     *
     * @param durability {@link Durability#DEVICE} by default
     * @return the options with it
     */
    public LogOptions durability(Durability durability) {
        LogOptions copy = copy();
        copy.durability = Objects.requireNonNull(durability, "durability");
        return copy;
    }

    /**
     * How records are made durable on a local disk. Without effect under {@link Durability#OS}.
     *
     * @param barrier {@link Barrier#AUTO} by default
     * @return the options with it
     */
    public LogOptions barrier(Barrier barrier) {
        LogOptions copy = copy();
        copy.barrier = Objects.requireNonNull(barrier, "barrier");
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
     * @param recordTime in record time, which need not be wall time; 60 s by default
     * @return the options with it
     */
    public LogOptions rollingInterval(Duration recordTime) {
        LogOptions copy = copy();
        copy.rollingInterval = Objects.requireNonNull(recordTime, "recordTime");
        return copy;
    }

    /**
     * Bound on a write that cannot proceed: a full disk, memory, failing segments.
     *
     * @param bound 3 s for a driver and 20 s for receivers by default
     * @return the options with it
     */
    public LogOptions writeTimeout(Duration bound) {
        LogOptions copy = copy();
        copy.writeTimeout = Objects.requireNonNull(bound, "bound");
        return copy;
    }

    /**
     * Subtracted from every threshold of {@link Log#clean}.
     *
     * @param recordTime in record time, 10 s by default; zero makes thresholds exact
     * @return the options with it
     */
    public LogOptions cleanGrace(Duration recordTime) {
        LogOptions copy = copy();
        copy.cleanGrace = Objects.requireNonNull(recordTime, "recordTime");
        return copy;
    }

    /**
     * How long to wait for a live owner of the log to let go of it.
     *
     * @param bound 30 s by default
     * @return the options with it
     */
    public LogOptions lockWait(Duration bound) {
        LogOptions copy = copy();
        copy.lockWait = Objects.requireNonNull(bound, "bound");
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
     * @param time 10 s by default
     * @return the options with it
     */
    public LogOptions linger(Duration time) {
        LogOptions copy = copy();
        copy.linger = Objects.requireNonNull(time, "time");
        return copy;
    }

    /**
     * Idle time after which the log marks its last record as known durable.
     *
     * @param time 1 s by default
     * @return the options with it
     */
    public LogOptions idleMark(Duration time) {
        LogOptions copy = copy();
        copy.idleMark = Objects.requireNonNull(time, "time");
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
     * @return its path
     */
    public Path dir() {
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

    /** Keys and values in turn, as {@code src/jni/convert.rs} reads them. */
    String[] pairs() {
        return new String[] {
            "dir", dir.toString(),
            "role", role.name().toLowerCase(Locale.ROOT),
            "recovery", recovery.name().toLowerCase(Locale.ROOT),
            "durability", durability.name().toLowerCase(Locale.ROOT),
            "barrier", barrier.name().toLowerCase(Locale.ROOT),
            "segmentSize", Long.toString(segmentSize),
            "memory", Long.toString(memory),
            "maxFailures", Integer.toString(maxFailures),
            "rollingInterval", Long.toString(rollingInterval.toMillis()),
            "writeTimeout", Long.toString(writeTimeout.toMillis()),
            "cleanGrace", Long.toString(cleanGrace.toMillis()),
            "lockWait", Long.toString(lockWait.toMillis()),
            "linger", Long.toString(linger.toMillis()),
            "idleMark", Long.toString(idleMark.toMillis()),
            "allowNetworkLock", Boolean.toString(allowNetworkLock)
        };
    }

    /** Directory, role and every option. */
    @Override
    public String toString() {
        StringBuilder text = new StringBuilder("LogOptions[");
        String[] pairs = pairs();
        for (int i = 0; i < pairs.length; i += 2) {
            text.append(i == 0 ? "" : ", ").append(pairs[i]).append('=').append(pairs[i + 1]);
        }
        return text.append(']').toString();
    }
}
