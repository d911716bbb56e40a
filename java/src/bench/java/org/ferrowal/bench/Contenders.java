package org.ferrowal.bench;

import java.util.List;
import java.util.Map;

/** The rows that there are, in the order of the table. The device's own row is not among them: see {@link Device}. */
final class Contenders {
    private Contenders() {
    }

    /** All of them. */
    static List<Contender> all() {
        return List.of(
            new SparkLog("ferrowal", "ferrowal", true,
                "org.ferrowal.spark.ReceiverWriteAheadLog. A write returns when its record is on the device: writers that "
                    + "wait at the same time share one write and one fdatasync. Standard settings, but for "
                    + "spark.ferrowal.clean.grace=1s.",
                Map.of("spark.streaming.receiver.writeAheadLog.class", "org.ferrowal.spark.ReceiverWriteAheadLog",
                    "spark.ferrowal.dir", SparkLog.DIRECTORY,
                    "spark.ferrowal.clean.grace", "1s",
                    // The directory is deleted after the close; nothing will open it again.
                    "spark.ferrowal.linger", "0s")),
            new SparkLog("filebased", "Spark FileBased", false,
                "Spark's own FileBasedWriteAheadLog, standard settings. A write returns when its record is in the page "
                    + "cache; it never syncs. Writers take turns (its write is synchronized).",
                Map.of()),
            new SparkLog("filebased-close", "Spark FileBased, closeFileAfterWrite", false,
                "The same with spark.streaming.receiver.writeAheadLog.closeFileAfterWrite=true: a file of its own for "
                    + "each record, closed and not synced.",
                Map.of("spark.streaming.receiver.writeAheadLog.closeFileAfterWrite", "true")));
    }

    /**
     * The row of that name.
     *
     * @throws BenchException if there is none
     */
    static Contender byId(String id) {
        return all().stream().filter(contender -> contender.id().equals(id)).findFirst()
            .orElseThrow(() -> new BenchException("no log is named '" + id + "': there are "
                + String.join(", ", all().stream().map(Contender::id).toList())));
    }
}
