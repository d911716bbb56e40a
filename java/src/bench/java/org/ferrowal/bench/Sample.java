package org.ferrowal.bench;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.function.ToDoubleFunction;

import org.HdrHistogram.Histogram;

/**
 * What one round of one row measured.
 *
 * @param rate records a second, of all threads together
 * @param p50 median time of one write (of one barrier, in the device's row), microseconds
 * @param p99 its 99th percentile, microseconds
 * @param longest the longest one, microseconds
 * @param share the rate over the device's, measured just before and after; NaN in the device's own row
 * @param left seconds that the kernel then took to write back what the row had left in the page cache
 */
record Sample(double rate, double p50, double p99, double longest, double share, double left) {
    static Sample of(double rate, Histogram nanos, double share, double left) {
        return new Sample(rate, nanos.getValueAtPercentile(50) / 1e3, nanos.getValueAtPercentile(99) / 1e3,
            nanos.getMaxValue() / 1e3, share, left);
    }

    /** A histogram of nanoseconds, to a part in a thousand. */
    static Histogram histogram() {
        return new Histogram(3_600_000_000_000L, 3);
    }

    /** Median, least and most of one figure over the rounds. */
    record Figure(double median, double least, double most) {
        static Figure of(List<Sample> samples, ToDoubleFunction<Sample> figure) {
            List<Double> values = new ArrayList<>(samples.stream().map(figure::applyAsDouble).toList());
            Collections.sort(values);
            int half = values.size() / 2;
            double median = values.size() % 2 == 1 ? values.get(half) : (values.get(half - 1) + values.get(half)) / 2;
            return new Figure(median, values.get(0), values.get(values.size() - 1));
        }

        /** {@code median (least–most)} with so many decimals, each times {@code factor}. */
        String show(int decimals, double factor) {
            String one = "%,." + decimals + "f";
            return String.format(Locale.ROOT, one + " (" + one + "–" + one + ")", median * factor, least * factor,
                most * factor);
        }
    }
}
