package org.ferrowal.spark;

import java.time.Duration;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import org.ferrowal.Metrics;

/**
 * The metrics of all executors as one set of values, in the driver. What an executor counted stays counted when it is gone;
 * what it had open, and its latencies, are not shown any more once it has been silent for some time.
 */
final class ExecutorTotals {
    /** Reports that may be missed before an executor counts as gone. */
    private static final int MISSED = 3;

    private final List<Metrics.Metric> metrics;
    private final long silence;
    private final Map<String, Told> executors = new HashMap<>();
    /** What executors counted that are gone. */
    private final long[] past;

    private static final class Told {
        long[] values;
        long at;
    }

    ExecutorTotals(List<Metrics.Metric> metrics, Duration every) {
        this.metrics = metrics;
        this.silence = every.multipliedBy(MISSED).toNanos();
        this.past = new long[metrics.size()];
    }

    /** Takes what an executor told at a time of {@link System#nanoTime}. Values of another length are another release's. */
    synchronized void take(String executor, long[] values, long now) {
        if (values.length == metrics.size()) {
            Told told = executors.computeIfAbsent(executor, name -> new Told());
            told.values = values;
            told.at = now;
        }
    }

    /** The values of this process and of all executors. */
    synchronized long[] with(long[] own, long now) {
        long[] all = own.clone();
        add(all, past);
        for (Iterator<Told> each = executors.values().iterator(); each.hasNext();) {
            Told told = each.next();
            if (now - told.at <= silence) {
                add(all, told.values);
            } else if (now - told.at > 100 * silence) {
                // Surely gone. One that is only slow is kept: its counts must not be added twice.
                addCounters(past, told.values);
                addCounters(all, told.values);
                each.remove();
            } else {
                addCounters(all, told.values);
            }
        }
        return all;
    }

    private void add(long[] to, long[] values) {
        for (int i = 0; i < to.length; i++) {
            to[i] = metrics.get(i).kind() == Metrics.Kind.MOST ? Math.max(to[i], values[i]) : to[i] + values[i];
        }
    }

    private void addCounters(long[] to, long[] values) {
        for (int i = 0; i < to.length; i++) {
            to[i] += metrics.get(i).kind() == Metrics.Kind.COUNTER ? values[i] : 0;
        }
    }
}
