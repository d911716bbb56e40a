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
import org.ferrowal.bench.rows.Contender;
import org.ferrowal.bench.rows.Load;

/**
 * One size of record and one number of threads: all rows, their rounds interleaved, the device before and after each.
 *
 * <p>A log stays open over its rounds, as it does in an application. After each row the file system is told to write back
 * what the row left in the page cache, or its price would be paid by the next row; how long that took is in the sample.
 */
final class Cell {
    /**
     * How a benchmark is run.
     *
     * @param rounds counted rounds; one that is not counted comes first
     * @param seconds in the counted part of a round
     * @param ramp seconds before it
     * @param device seconds of the ideal between two rows
     * @param calibration seconds of each way to write, at the start
     */
    record Plan(int rounds, double seconds, double ramp, double device, double calibration) {
        /** Where the writers' records make up tens of megabytes, a second is too short: few are written in it, or none. */
        double seconds(long size, int threads) {
            return size * threads >= HUGE ? 3 * seconds : seconds;
        }

        /** About how long a cell takes, in seconds; opening, closing and writing back are guessed. */
        double expected(int rows, long size, int threads) {
            boolean large = size >= Ideal.LARGE;
            return calibration * (large ? 13 : 5) + 1
                + rows * (1 + (rounds + 1) * (seconds(size, threads) + ramp + device * (large ? 2 : 1) + 0.15));
        }
    }

    /** What a row came to: its counted rounds and the times of all their writes, or why it could not run. */
    record Result(List<Sample> samples, Histogram nanos, String failure) {
    }

    /** Bytes that all writers have on the way together, from which on rounds are longer. */
    private static final long HUGE = 64L << 20;
    /** The free space below which no round begins: no row may fill the volume of others. */
    private static final long RESERVE_BYTES = 6L << 30;

    private final int size;
    private final int threads;
    private final Map<Contender, Result> results = new LinkedHashMap<>();
    private final Map<Contender, Contender.Session> open = new LinkedHashMap<>();
    private final List<Sample> device = new ArrayList<>();
    private Map<Device.Way, Sample> ways = Map.of();
    private Device.Way best;
    private Device.Way stream;
    private final List<Double> streamRates = new ArrayList<>();

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

    /** The ideal, each sample taken between two rows. */
    List<Sample> device() {
        return device;
    }

    /** Each way to write, measured once at the start. */
    Map<Device.Way, Sample> ways() {
        return ways;
    }

    /** The way of {@link #device}. */
    Device.Way best() {
        return best;
    }

    /** The way of {@link #streamRates}, or null for small records. */
    Device.Way stream() {
        return stream;
    }

    /** The device's best durable bandwidth, in records a second, each taken between two rows. */
    List<Double> streamRates() {
        return streamRates;
    }

    /**
     * Runs all rounds, one uncounted round first.
     *
     * @param work an existing directory for the logs and the device's files; all that is made there is deleted at the end
     * @param progress told what runs now
     * @throws BenchException if there is too little disk
     */
    void run(List<Contender> contenders, Plan plan, Path work, Consumer<String> progress)
            throws IOException, InterruptedException {
        Path home = Files.createDirectory(work.resolve(size + "x" + threads));
        progress.accept(Report.size(size) + " × " + threads + ": the device");
        try (Ideal ideal = new Ideal(Files.createDirectory(home.resolve("device")), size, threads, plan.calibration)) {
            ways = ideal.ways();
            best = ideal.best();
            stream = ideal.stream();
            for (Contender contender : contenders) {
                results.put(contender, new Result(new ArrayList<>(), Load.histogram(), null));
                progress.accept(Report.size(size) + " × " + threads + ": opening " + contender.title());
                try {
                    open.put(contender,
                        contender.open(Files.createDirectory(home.resolve(contender.id())), size, threads));
                } catch (Exception | Error e) { // Scala throws checked exceptions without saying so.
                    fail(contender, e);
                }
            }
            List<Contender> order = new ArrayList<>(contenders);
            for (int round = 0; round <= plan.rounds; round++) {
                round(round, order, plan, home, ideal, progress);
                // No row always runs after the same other one.
                order.add(order.remove(0));
            }
        } finally {
            for (Map.Entry<Contender, Contender.Session> entry : open.entrySet()) {
                try {
                    entry.getValue().close();
                } catch (RuntimeException e) {
                    fail(entry.getKey(), e);
                }
            }
            WorkFiles.delete(home);
        }
    }

    private void round(int round, List<Contender> order, Plan plan, Path home, Ideal ideal, Consumer<String> progress)
            throws IOException, InterruptedException {
        WorkFiles.writeBack(home);
        Sample before = device(ideal, plan, round);
        double streamBefore = stream(ideal, plan, round);
        for (Contender contender : order) {
            if (results.get(contender).failure != null) {
                continue;
            }
            WorkFiles.needSpace(home, RESERVE_BYTES);
            progress.accept(Report.size(size) + " × " + threads + ", "
                + (round == 0 ? "warm-up" : "round " + round + " of " + plan.rounds) + ": " + contender.title());
            Contender.Round measured;
            try {
                double seconds = plan.seconds(size, threads);
                measured = open.get(contender).round(plan.ramp, round > 0 ? seconds : Math.max(seconds, contender.warmUp()));
            } catch (RuntimeException | Error e) {
                fail(contender, e);
                continue;
            }
            double left = WorkFiles.writeBack(home);
            Sample after = device(ideal, plan, round);
            double streamAfter = stream(ideal, plan, round);
            if (round > 0) {
                Result result = results.get(contender);
                result.nanos.add(measured.nanos());
                result.samples.add(Sample.of(measured.rate(), measured.nanos(), measured.cpuMicros())
                    .beside(before, after, streamBefore, streamAfter, left));
            }
            before = after;
            streamBefore = streamAfter;
        }
    }

    private Sample device(Ideal ideal, Plan plan, int round) throws IOException, InterruptedException {
        Sample sample = ideal.measure(plan.device);
        if (round > 0) {
            device.add(sample);
        }
        return sample;
    }

    private double stream(Ideal ideal, Plan plan, int round) throws IOException, InterruptedException {
        double rate = ideal.bandwidth(plan.device);
        if (round > 0 && !Double.isNaN(rate)) {
            streamRates.add(rate);
        }
        return rate;
    }

    private void fail(Contender contender, Throwable why) {
        System.err.println("\n" + contender.title() + " failed:");
        why.printStackTrace();
        results.put(contender, new Result(List.of(), Load.histogram(), BenchException.reason(why)));
    }
}
