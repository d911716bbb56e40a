package org.ferrowal.bench;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.function.ToDoubleFunction;

import org.ferrowal.LogOptions;
import org.ferrowal.Metrics;
import org.ferrowal.bench.rows.Contender;
import org.ferrowal.bench.rows.Contenders;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * Where the gap to the ideal comes from, by the log's own counters. What ferrowal has of the ideal is a product of two
 * numbers: of the share of the time in which at least one of its groups is at the device, and of what the device does then
 * compared with the ideal. The first one is lost by whatever is done while nothing is being written: copies, checksums, threads
 * that are being woken, writers that are late. The second one by groups that lack writers, by headers and padding, and by a
 * device that is slower when other memory or fewer requests come to it.
 */
@Command(name = "parts", sortOptions = false, usageHelpWidth = 110,
    description = "Takes ferrowal's share of the ideal apart: how long the device has something to do, and how much it does then.")
final class PartsBench implements Callable<Integer> {
    @Option(names = "--sizes", split = ",", converter = Workspace.Bytes.class, defaultValue = "100,1k,16k,64k,256k,1m,4m",
        description = "Bytes in a record (default ${DEFAULT-VALUE}).")
    private List<Long> sizes;
    @Option(names = "--threads", split = ",", defaultValue = "1,2,8,64",
        description = "Threads that write (default ${DEFAULT-VALUE}).")
    private List<Integer> threads;
    @Option(names = "--seconds", defaultValue = "0.5", description = "Length of a round (default ${DEFAULT-VALUE}).")
    private double seconds;
    @Option(names = "--rounds", defaultValue = "5",
        description = "Counted rounds; one that is not counted comes first (default ${DEFAULT-VALUE}).")
    private int rounds;
    @Mixin
    private Workspace space;

    private static final double RAMP_SECONDS = 0.1;
    private static final double IDEAL_SECONDS = 0.2;

    /**
     * One round.
     *
     * @param share of the ideal, measured just before and after
     * @param busy share of the time in which a group was at the device
     * @param records in a group
     * @param groups a second in which the device was busy
     * @param written bytes at the device for each byte of a record
     * @param cpu processor time a record, microseconds
     * @param ideal barriers a second of the ideal
     */
    private record Part(double share, double busy, double records, double groups, double written, double cpu, double ideal) {
        /** What the device did while it was busy, of the ideal. */
        double whileBusy() {
            return share / busy;
        }
    }

    @Override
    public Integer call() throws Exception {
        Path work = space.work();
        space.describe();
        System.out.println("By ferrowal's own counters, over " + rounds + " rounds of " + seconds + " s with the ideal before and "
            + "after each. Share of the ideal = share of the time in which the device had a group of ours × what it did then, "
            + "of the ideal.");
        System.out.println();
        System.out.println("### Where the gap to the ideal comes from");
        System.out.println();
        System.out.println("| records | share of the ideal | device busy | while busy, of the ideal | records a group | groups a "
            + "busy second | the ideal's barriers a second | bytes written a byte | CPU, µs a record |");
        System.out.println("|---|---|---|---|---|---|---|---|---|");
        for (long size : sizes) {
            for (int writers : threads) {
                List<Part> parts = cell(work, (int) size, writers);
                System.out.println("| " + String.join(" | ",
                    Report.size(size) + " × " + writers, figure(parts, Part::share, 2, 1),
                    figure(parts, Part::busy, 2, 1), figure(parts, Part::whileBusy, 2, 1),
                    figure(parts, Part::records, 1, 1), figure(parts, Part::groups, 0, 1), figure(parts, Part::ideal, 0, 1),
                    figure(parts, Part::written, 2, 1), figure(parts, Part::cpu, 1, 1)) + " |");
                System.out.flush();
            }
        }
        return 0;
    }

    private static String figure(List<Part> parts, ToDoubleFunction<Part> of, int decimals, double factor) {
        return Sample.Figure.of(parts.stream().map(of::applyAsDouble).toList()).show(decimals, factor);
    }

    private List<Part> cell(Path work, int size, int writers) throws Exception {
        Path home = Files.createDirectory(work.resolve("parts"));
        List<Part> parts = new ArrayList<>();
        Contender contender = Contenders.DEVICE;
        try (Ideal ideal = new Ideal(Files.createDirectory(home.resolve("device")), size, writers, IDEAL_SECONDS);
                Contender.Session log = contender.open(Files.createDirectory(home.resolve("log")), size, writers)) {
            for (int round = 0; round <= rounds; round++) {
                Workspace.progress("parts: " + Report.size(size) + " × " + writers + ", round " + round + " of " + rounds);
                WorkFiles.needSpace(work, 6L << 30);
                WorkFiles.writeBack(home);
                Sample before = ideal.measure(IDEAL_SECONDS);
                Map<String, Long> then = Metrics.of(LogOptions.Role.RECEIVERS);
                long began = System.nanoTime();
                Contender.Round measured = log.round(RAMP_SECONDS, round > 0 ? seconds : Math.max(seconds, contender.warmUp()));
                double micros = (System.nanoTime() - began) / 1e3;
                Map<String, Long> now = Metrics.of(LogOptions.Role.RECEIVERS);
                Sample after = ideal.measure(IDEAL_SECONDS);
                if (round > 0) {
                    ToDoubleFunction<String> grown = name -> now.get(name) - then.get(name);
                    double rate = (before.rate() + after.rate()) / 2;
                    double records = grown.applyAsDouble("records");
                    double groups = grown.applyAsDouble("groups") - grown.applyAsDouble("marks");
                    double busy = grown.applyAsDouble("barrier.busy.micros");
                    parts.add(new Part(records * 1e6 / micros / rate, busy / micros, records / groups, groups * 1e6 / busy,
                        grown.applyAsDouble("device.bytes") / grown.applyAsDouble("bytes"), measured.cpuMicros(),
                        rate / ideal.records()));
                }
            }
        } finally {
            Workspace.progress("");
            WorkFiles.delete(home);
        }
        return parts;
    }
}
