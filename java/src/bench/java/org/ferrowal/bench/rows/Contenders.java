package org.ferrowal.bench.rows;

import java.util.HashMap;
import java.util.List;
import java.util.Map;

import org.ferrowal.bench.BenchException;

/** The rows that there are, in the order of the tables. The device's own are not among them. */
public final class Contenders {
    private static final Map<String, String> FERROWAL = Map.of(
        "spark.streaming.receiver.writeAheadLog.class", "org.ferrowal.spark.ReceiverWriteAheadLog",
        "spark.ferrowal.dir", SparkLog.DIRECTORY,
        // As long as Spark's own log keeps what was cleaned: not at all, or nearly.
        "spark.ferrowal.clean.grace", "1s",
        // The directory is deleted after the close; nothing will open it again.
        "spark.ferrowal.linger", "0s");

    /** ferrowal as it is by default: durable. */
    public static final SparkLog DEVICE = new SparkLog("ferrowal", "ferrowal", true,
        "org.ferrowal.spark.ReceiverWriteAheadLog, durability=device. A write returns when its record is on the device: "
            + "writers that wait at the same time share a barrier. Standard settings, but for spark.ferrowal.clean.grace=1s.",
        false, FERROWAL);

    /** ferrowal without barriers. */
    public static final SparkLog OS = new SparkLog("ferrowal-os", "ferrowal, durability=os", false,
        "The same with spark.ferrowal.durability=os: a write returns when its record is in the page cache.", false,
        with(FERROWAL, "spark.ferrowal.durability", "os"));

    /** Spark's own. */
    public static final SparkLog FILE_BASED = new SparkLog("filebased", "Spark FileBased", false,
        "Spark's own FileBasedWriteAheadLog, standard settings. A write returns when its record is in the page cache; it "
            + "never syncs. Writers take turns (its write is synchronized).", false, Map.of());

    /** ferrowal without barriers and without a JVM, to tell what Java and JNI cost. No row of the tables. */
    public static final Contender RUST_OS = new RustLog("ferrowal-os", "ferrowal, durability=os (Rust)",
        "The same in a process of its own, without a JVM.", false);

    /** The same with its storage stubbed out: its writes go nowhere. No row of the tables. */
    public static final Contender RUST_STUBBED = new RustLog("ferrowal-os", "ferrowal, storage stubbed out (Rust)",
        "The same, built so that what it writes goes nowhere.", false, true);

    private static final List<Contender> ALL = List.of(DEVICE, OS, FILE_BASED,
        new SparkLog("filebased-close", "Spark FileBased, closeFileAfterWrite", false,
            "The same with spark.streaming.receiver.writeAheadLog.closeFileAfterWrite=true: a file of its own for each "
                + "record, closed and not synced.", false,
            Map.of("spark.streaming.receiver.writeAheadLog.closeFileAfterWrite", "true")),
        new SparkLog("batched", "Spark Batched", false,
            "Spark's BatchedWriteAheadLog over FileBased: what the driver has by default. One thread writes the records that "
                + "wait as one, by Java serialization; it never syncs.", true, Map.of()),
        new ChannelLog(), new RocksDbLog(), new ArtemisLog(false), new ArtemisLog(true), new ChronicleLog(true),
        new ChronicleLog(false),
        new RustLog("raft-engine", "raft-engine (Rust)", "TiKV's raft-engine in a process of its own, without a JVM: "
            + "write(batch, sync = true), an entry a record, a region a thread; writers share an fdatasync. Files written "
            + "ahead and recycled, no compression, 1 GB kept.", true),
        new RustLog("okaywal", "okaywal (Rust)", "okaywal in a process of its own, without a JVM: an entry a record, each "
            + "committed; writers share an fdatasync. Files of 64 MiB, reused when three quarters full.", true),
        new RustLog("waiting", "nothing but waiting, asleep", "No log (benches/peers/src/waiting.rs): writers wait until all are "
            + "there, one of them overwrites zeroed blocks of as many bytes durably (O_DIRECT, O_DSYNC), all go on. No record is "
            + "copied or checked: what a group commit can have of the ideal on this machine at most, while nobody is late.", true),
        new RustLog("waiting-awake", "nothing but waiting, awake", "The same by writers that yield their processor instead of "
            + "sleeping.", true),
        new RustLog("writing", "nothing but writing", "No log (benches/peers/src/writing.rs): each writer overwrites the next bytes of "
            + "one file in the page cache, by pwrite, without a JVM. Nothing is framed, checked or put in order: what a log with a "
            + "call for each record can have at most without barriers.", false),
        new Nothing());

    private Contenders() {
    }

    private static Map<String, String> with(Map<String, String> conf, String key, String value) {
        Map<String, String> all = new HashMap<>(conf);
        all.put(key, value);
        return Map.copyOf(all);
    }

    /** Names of all rows, but for the one that is no log. */
    public static List<String> ids() {
        return ALL.stream().map(Contender::id).filter(id -> !id.equals("nothing")).toList();
    }

    /**
     * The row of that name.
     *
     * @throws BenchException if there is none
     */
    public static Contender byId(String id) {
        return ALL.stream().filter(contender -> contender.id().equals(id)).findFirst()
            .orElseThrow(() -> new BenchException("no log is named '" + id + "': there are "
                + String.join(", ", ALL.stream().map(Contender::id).toList())));
    }
}
