package org.ferrowal.bench;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

import org.ferrowal.bench.Device.Barrier;
import org.ferrowal.bench.Device.Measured;
import org.ferrowal.bench.Device.Way;

/**
 * The ideal group commit of one cell: the records of all writers in one durable overwrite each time, no software at all, in
 * the best of the ways that the device has. With q writes in flight, each has the records of a q-th of the writers, as a
 * pipelined log could do it; one writer's large record goes in q parts.
 *
 * <p>For large records also the device's best durable bandwidth, in pieces of any size and at any queue depth.
 *
 * <p>All ways are measured at the start of the cell; between the rows only the best one is.
 */
final class Ideal implements AutoCloseable {
    /** From here on a record may be split over several writes, and bandwidth is what counts. */
    static final int LARGE = 256 << 10;

    private static final int PASSES = 2;
    private static final int[] DEPTHS = {1, 2, 4};
    private static final int[] STREAM_DEPTHS = {1, 2, 4, 8};
    private static final int[] STREAM_PIECES = {256 << 10, 1 << 20, 4 << 20};

    private final int size;
    private final int threads;
    private final Device device;
    /** All ways for this cell's records, and records a second in each. */
    private final Map<Way, Measured> ways = new LinkedHashMap<>();
    private Way best;
    private Way stream;

    /**
     * Measures all ways.
     *
     * @param directory for the device's files; made here
     * @param seconds for each way
     */
    Ideal(Path directory, int size, int threads, double seconds) throws IOException, InterruptedException {
        this.size = size;
        this.threads = threads;
        device = new Device(directory, Math.max((long) size * threads, size >= LARGE ? STREAM_PIECES[2] : 0));
        try {
            calibrate(candidates(), seconds / PASSES, ways);
            best = fastest(ways, this::records);
            if (size >= LARGE) {
                Map<Way, Measured> streams = new LinkedHashMap<>();
                calibrate(streams(), seconds / PASSES / 2, streams);
                stream = fastest(streams, Way::piece);
            }
        } catch (IOException | InterruptedException | RuntimeException e) {
            device.close();
            throw e;
        }
    }

    /** Several passes, the better one of each way: what disturbs the machine for a moment decides nothing. */
    private void calibrate(List<Way> candidates, double seconds, Map<Way, Measured> results)
            throws IOException, InterruptedException {
        for (int pass = 0; pass < PASSES; pass++) {
            for (Way way : candidates) {
                results.merge(way, device.measure(way, seconds), (a, b) -> a.rate() >= b.rate() ? a : b);
            }
        }
    }

    private interface Worth {
        double of(Way way);
    }

    private static Way fastest(Map<Way, Measured> measured, Worth worth) {
        return measured.entrySet().stream()
            .max((a, b) -> Double.compare(a.getValue().rate() * worth.of(a.getKey()), b.getValue().rate() * worth.of(b.getKey())))
            .orElseThrow().getKey();
    }

    private List<Way> candidates() {
        List<Way> all = new ArrayList<>();
        for (Barrier barrier : Barrier.values()) {
            for (int depth : barrier == Barrier.DIRECT_DSYNC ? DEPTHS : new int[] {1}) {
                boolean split = depth > 1 && threads == 1;
                if (device.has(barrier) && (split ? size >= LARGE : threads % depth == 0)) {
                    all.add(new Way(barrier, depth, Device.blocks(((long) size * threads + depth - 1) / depth), split));
                }
            }
        }
        return all;
    }

    private List<Way> streams() {
        List<Way> all = new ArrayList<>();
        for (int piece : STREAM_PIECES) {
            for (Barrier barrier : Barrier.values()) {
                for (int depth : barrier == Barrier.DIRECT_DSYNC ? STREAM_DEPTHS : new int[] {1}) {
                    if (device.has(barrier)) {
                        all.add(new Way(barrier, depth, piece, false));
                    }
                }
            }
        }
        return all;
    }

    /** Records in one write; of one whose parts go side by side, in all of them. */
    private double records(Way way) {
        return way.joined() ? threads : (double) threads / way.depth();
    }

    /** Records in one write of {@link #best}. */
    double records() {
        return records(best);
    }

    /** The way that {@link #measure} uses. */
    Way best() {
        return best;
    }

    /** Every way and what it came to, as samples of records. */
    Map<Way, Sample> ways() {
        Map<Way, Sample> all = new LinkedHashMap<>();
        ways.forEach((way, measured) -> all.put(way, sample(way, measured)));
        return all;
    }

    /** The way of {@link #bandwidth}, or null for small records. */
    Way stream() {
        return stream;
    }

    /** The ideal, now. */
    Sample measure(double seconds) throws IOException, InterruptedException {
        return sample(best, device.measure(best, seconds));
    }

    private Sample sample(Way way, Measured measured) {
        double records = records(way);
        return Sample.of(measured.rate() * records, measured.nanos(), measured.cpuMicros() / records);
    }

    /** The device's best durable bandwidth, now, in records of this size a second; NaN for small records. */
    double bandwidth(double seconds) throws IOException, InterruptedException {
        return stream == null ? Double.NaN : device.measure(stream, seconds).rate() * stream.piece() / size;
    }

    @Override
    public void close() throws IOException {
        device.close();
    }
}
