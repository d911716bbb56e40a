package org.ferrowal.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

import org.HdrHistogram.Histogram;

/**
 * One size of record and one number of threads: all rows, their rounds interleaved, the device before and after each.
 *
 * <p>A log stays open over its rounds, as it does in an application. After each row the file system is told to write back
 * what the row left in the page cache, or its price would be paid by the next row; how long that took is in the sample.
 */
final class Cell {
    /** How a benchmark is run: counted rounds; seconds in a round, in its uncounted first part, and of the device. */
    record Plan(int rounds, double seconds, double ramp, double deviceSeconds) {
    }

    /** What a row came to: its counted rounds, or why it could not run. */
    record Result(List<Sample> samples, String failure) {
    }

    /** The free space below which no round begins: no row may fill the volume of others. */
    private static final long RESERVE_BYTES = 3L << 30;

    private final int size;
    private final int threads;
    private final Map<Contender, Result> results = new LinkedHashMap<>();
    private final Map<Contender, Contender.Appender> open = new LinkedHashMap<>();
    private final List<Sample> device = new ArrayList<>();

    Cell(int size, int threads) {
        this.size = size;
        this.threads = threads;
    }

    int size() {
        return size;
    }

    int threads() {
        return threads;
    }

    /** By row, in the order of the table. */
    Map<Contender, Result> results() {
        return results;
    }

    /** The device's own, each taken between two rows. */
    List<Sample> device() {
        return device;
    }

    /**
     * Runs all rounds, one uncounted round first.
     *
     * @param work an existing directory for the logs and the device's file; all that is made there is deleted at the end
     * @param progress told what runs now
     * @throws BenchException if there is too little disk
     */
    void run(List<Contender> contenders, Plan plan, Path work, Consumer<String> progress)
            throws IOException, InterruptedException {
        Path home = Files.createDirectory(work.resolve(size + "x" + threads));
        try (Device bare = new Device(home.resolve("device"), size, threads)) {
            for (Contender contender : contenders) {
                results.put(contender, new Result(new ArrayList<>(), null));
                try {
                    open.put(contender, contender.open(Files.createDirectory(home.resolve(contender.id()))));
                } catch (RuntimeException e) {
                    fail(contender, e);
                }
            }
            List<Contender> order = new ArrayList<>(contenders);
            for (int round = 0; round <= plan.rounds; round++) {
                round(round, order, plan, home, bare, progress);
                // No row always runs after the same other one.
                order.add(order.remove(0));
            }
        } finally {
            for (Map.Entry<Contender, Contender.Appender> entry : open.entrySet()) {
                try {
                    entry.getValue().close();
                } catch (RuntimeException e) {
                    fail(entry.getKey(), e);
                }
            }
            WorkFiles.delete(home);
        }
    }

    private void round(int round, List<Contender> order, Plan plan, Path home, Device bare, Consumer<String> progress)
            throws IOException, InterruptedException {
        WorkFiles.writeBack(home);
        double before = device(bare, plan, round);
        for (Contender contender : order) {
            if (results.get(contender).failure != null) {
                continue;
            }
            WorkFiles.needSpace(home, RESERVE_BYTES);
            progress.accept(Report.size(size) + " × " + threads + ", "
                + (round == 0 ? "warm-up" : "round " + round + " of " + plan.rounds) + ": " + contender.title());
            Histogram nanos = Sample.histogram();
            double rate;
            try {
                rate = new Load(open.get(contender), size, threads, plan.ramp, plan.seconds).run(nanos);
            } catch (RuntimeException e) {
                fail(contender, e);
                continue;
            }
            double left = WorkFiles.writeBack(home);
            double after = device(bare, plan, round);
            if (round > 0) {
                results.get(contender).samples.add(Sample.of(rate, nanos, rate / ((before + after) / 2), left));
            }
            before = after;
        }
    }

    private double device(Device bare, Plan plan, int round) throws IOException {
        Histogram nanos = Sample.histogram();
        double rate = bare.measure(plan.deviceSeconds, nanos);
        if (round > 0) {
            device.add(Sample.of(rate, nanos, Double.NaN, 0));
        }
        return rate;
    }

    private void fail(Contender contender, RuntimeException why) {
        System.err.println("\n" + contender.title() + " failed:");
        why.printStackTrace();
        results.put(contender, new Result(List.of(), String.valueOf(why.getMessage()).lines().findFirst().orElse("")));
    }
}
