package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import java.time.Duration;
import java.util.List;
import org.ferrowal.Metrics;
import org.junit.jupiter.api.Test;

/** Many executors' values as one. */
class ExecutorTotalsTest {
    private static final long SECOND = Duration.ofSeconds(1).toNanos();

    private final ExecutorTotals totals = new ExecutorTotals(List.of(
        new Metrics.Metric("count", Metrics.Kind.COUNTER, "things", "Counted."),
        new Metrics.Metric("now", Metrics.Kind.GAUGE, "things", "There now."),
        new Metrics.Metric("worst", Metrics.Kind.MOST, "things", "The worst.")), Duration.ofSeconds(1));

    @Test
    void countersAndGaugesAreAddedUpAndTheWorstLatencyCounts() {
        totals.take("1", new long[] {10, 1, 7}, 0);
        totals.take("2", new long[] {20, 2, 5}, 0);
        assertArrayEquals(new long[] {31, 4, 7}, totals.with(new long[] {1, 1, 1}, SECOND));
        totals.take("1", new long[] {15, 0, 3}, SECOND);
        assertArrayEquals(new long[] {35, 2, 5}, totals.with(new long[3], SECOND));
    }

    @Test
    void whatAnExecutorCountedStaysCountedWhenItIsGone() {
        totals.take("1", new long[] {10, 1, 7}, 0);
        assertArrayEquals(new long[] {10, 1, 7}, totals.with(new long[3], 3 * SECOND));
        assertArrayEquals(new long[] {10, 0, 0}, totals.with(new long[3], 4 * SECOND));
        totals.take("1", new long[] {12, 1, 7}, 5 * SECOND);
        assertArrayEquals(new long[] {12, 1, 7}, totals.with(new long[3], 5 * SECOND));
        for (int look = 0; look < 3; look++) {
            assertArrayEquals(new long[] {12, 0, 0}, totals.with(new long[3], 1000 * SECOND));
        }
    }

    @Test
    void whatIsNotOfThisReleaseIsNotTaken() {
        totals.take("1", new long[] {10, 1}, 0);
        assertArrayEquals(new long[3], totals.with(new long[3], 0));
    }
}
