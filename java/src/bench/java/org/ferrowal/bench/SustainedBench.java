package org.ferrowal.bench;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;

import org.HdrHistogram.Histogram;
import org.ferrowal.bench.rows.Contender;
import org.ferrowal.bench.rows.Contenders;
import org.ferrowal.bench.rows.Load;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Writing for long, past what the page cache absorbs, cleaned as Spark does: the rate of the first seconds, and after. */
@Command(name = "sustained", sortOptions = false, usageHelpWidth = 110,
    description = "Large records for at least 20 s and 10 GB, past what the page cache absorbs, beside Spark's FileBased.")
final class SustainedBench implements Callable<Integer> {
    @Option(names = "--size", converter = Workspace.Bytes.class, defaultValue = "1m",
        description = "Bytes in a record (default ${DEFAULT-VALUE}).")
    private long size;
    @Option(names = "--threads", defaultValue = "8", description = "Threads that write (default ${DEFAULT-VALUE}).")
    private int threads;
    @Option(names = "--seconds", defaultValue = "20", description = "At least so long (default ${DEFAULT-VALUE}).")
    private double seconds;
    @Option(names = "--bytes", converter = Workspace.Bytes.class, defaultValue = "10g",
        description = "At least so much in the counted part (default ${DEFAULT-VALUE}).")
    private long bytes;
    @Option(names = "--rounds", defaultValue = "5", description = "Rounds of each row (default ${DEFAULT-VALUE}).")
    private int rounds;
    @Option(names = "--logs", split = ",", defaultValue = "ferrowal,filebased",
        description = "Rows (default ${DEFAULT-VALUE}).")
    private List<String> logs;
    @Mixin
    private Workspace space;

    private static final double COLD_SECONDS = 3;
    /** By then three cleans have been, and segments are used again. */
    private static final double RAMP_SECONDS = 6;
    /** Spark's own log deletes nothing within a minute; this is about what it writes here at most in a round. */
    private static final double KEPT_PER_SECOND = 1.9e9;

    private record Row(List<Double> cold, List<Sample> samples, List<Double> shares) {
    }

    @Override
    public Integer call() throws Exception {
        Path work = space.work();
        List<Contender> contenders = logs.stream().map(Contenders::byId).toList();
        space.describe();
        double length = COLD_SECONDS + RAMP_SECONDS + seconds;
        WorkFiles.needSpace(work, (long) (length * KEPT_PER_SECOND) + (4L << 30));
        System.out.println("Each row: " + COLD_SECONDS + " s from nothing (cold), " + RAMP_SECONDS + " s that do not count, then "
            + "at least " + seconds + " s and " + Report.size(bytes) + ". A clean a second, two seconds back; ferrowal's grace is "
            + "1 s. A log is opened anew for each round, and its files are deleted after it.");
        Map<Contender, Row> rows = new LinkedHashMap<>();
        contenders.forEach(contender -> rows.put(contender, new Row(new ArrayList<>(), new ArrayList<>(), new ArrayList<>())));
        List<Double> device = new ArrayList<>();
        try (Ideal ideal = new Ideal(Files.createDirectory(work.resolve("device")), (int) size, threads, 0.5)) {
            for (int round = 1; round <= rounds; round++) {
                for (Contender contender : contenders) {
                    Workspace.progress("sustained, round " + round + " of " + rounds + ": " + contender.title());
                    WorkFiles.needSpace(work, (long) (length * KEPT_PER_SECOND));
                    WorkFiles.writeBack(work);
                    double before = rate(ideal);
                    run(contender, rows.get(contender), work.resolve(contender.id() + round));
                    WorkFiles.writeBack(work);
                    double after = rate(ideal);
                    Row row = rows.get(contender);
                    row.shares.add(row.samples.get(row.samples.size() - 1).rate() / ((before + after) / 2));
                    device.add(before);
                    device.add(after);
                }
            }
        }
        Workspace.progress("");
        print(rows, device);
        return 0;
    }

    private double rate(Ideal ideal) throws Exception {
        double stream = ideal.bandwidth(1);
        return Double.isNaN(stream) ? ideal.measure(1).rate() : stream;
    }

    private void run(Contender contender, Row row, Path directory) throws Exception {
        Contender.Session log = contender.open(Files.createDirectory(directory), (int) size, threads);
        try {
            row.cold.add(log.round(0, COLD_SECONDS).rate());
            Histogram all = Load.histogram();
            double spent = 0;
            double cpu = 0;
            // The log is not left alone between the parts, if there are several: its threads only start anew.
            while (spent < seconds || all.getTotalCount() * size < bytes) {
                WorkFiles.needSpace(directory, (long) (seconds * KEPT_PER_SECOND));
                Contender.Round part = log.round(spent == 0 ? RAMP_SECONDS : 0, seconds);
                all.add(part.nanos());
                cpu += part.cpuMicros() * part.nanos().getTotalCount();
                spent += seconds;
            }
            row.samples.add(Sample.of(all.getTotalCount() / spent, all, cpu / Math.max(all.getTotalCount(), 1)));
        } finally {
            log.close();
            WorkFiles.delete(directory);
        }
    }

    private void print(Map<Contender, Row> rows, List<Double> device) {
        double mb = size / 1e6;
        System.out.println();
        System.out.println("### Sustained, records of " + Report.size(size) + ", " + threads + " threads");
        System.out.println();
        System.out.println("| row | durable | MB/s | cold, MB/s | p50, µs | p99, µs | longest, ms | CPU, µs a record | share of the "
            + "device's durable bandwidth |");
        System.out.println("|---|---|---|---|---|---|---|---|---|");
        System.out.println("| the device's durable bandwidth | yes | " + Sample.Figure.of(device).show(0, mb) + " | | | | | | |");
        rows.forEach((contender, row) -> System.out.println("| " + String.join(" | ", contender.title(),
            contender.durable() ? "yes" : "no", Sample.Figure.of(row.samples, Sample::rate).show(0, mb),
            Sample.Figure.of(row.cold).show(0, mb), Sample.Figure.of(row.samples, Sample::p50).show(0, 1),
            Sample.Figure.of(row.samples, Sample::p99).show(0, 1), Sample.Figure.of(row.samples, Sample::longest).show(1, 1e-3),
            Sample.Figure.of(row.samples, Sample::cpu).show(1, 1), Sample.Figure.of(row.shares).show(2, 1)) + " |"));
        Row ours = rows.get(Contenders.DEVICE);
        Row spark = rows.get(Contenders.FILE_BASED);
        if (ours != null && spark != null) {
            Verdicts verdicts = new Verdicts();
            List<Double> rates = new ArrayList<>();
            List<Double> tails = new ArrayList<>();
            for (int i = 0; i < rounds; i++) {
                rates.add(ours.samples.get(i).rate() / spark.samples.get(i).rate());
                tails.add(ours.samples.get(i).p99() / spark.samples.get(i).p99());
            }
            verdicts.atLeast("sustained, throughput over Spark's FileBased", 4, " ×", Sample.Figure.of(rates));
            verdicts.atMost("sustained, p99 over Spark's FileBased", 0.05, " ×", Sample.Figure.of(tails));
            verdicts.print(System.out);
        }
    }
}
