package org.ferrowal.bench;

import java.nio.file.Path;

import org.ferrowal.bench.rows.Contender;
import org.ferrowal.bench.rows.Contenders;

/**
 * The program whose system calls {@link SyncCount} counts: one thread writes so many records to one log, each after the
 * last has returned, and ends without closing it, so that no sync is counted that is only the close's.
 */
public final class SyncProbe {
    private SyncProbe() {
    }

    /**
     * Writes.
     *
     * @param args the row's id, an existing empty directory, the number of records, bytes in each
     */
    public static void main(String[] args) {
        Contender.Session log = Contenders.byId(args[0]).open(Path.of(args[1]), Integer.parseInt(args[3]), 1);
        log.write(Integer.parseInt(args[2]));
        System.out.println("written");
        System.out.flush();
        // At once: no shutdown hook of Hadoop's may sync in our place.
        Runtime.getRuntime().halt(0);
    }
}
