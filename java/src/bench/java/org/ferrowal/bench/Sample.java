package org.ferrowal.bench;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.function.ToDoubleFunction;

import org.HdrHistogram.Histogram;

/**
 * What one round of one row measured. What does not apply is NaN.
 *
 * @param rate records a second, of all threads together
 * @param p50 median time of one write (of one barrier, in the device's rows), microseconds
 * @param p99 its 99th percentile, microseconds
 * @param longest the longest one, microseconds
 * @param cpu CPU time of the process a record, microseconds
 * @param share the rate over the ideal's, measured just before and after
 * @param streamShare the rate over the device's best durable bandwidth, measured just before and after
 * @param barriers the median time over that of one barrier of the ideal
 * @param barriers99 the 99th percentile over the ideal's own
 * @param left seconds that the kernel then took to write back what the row had left in the page cache
 */
record Sample(double rate, double p50, double p99, double longest, double cpu, double share, double streamShare,
        double barriers, double barriers99, double left) {
    /** A round by itself; no times where nothing was written. */
    static Sample of(double rate, Histogram nanos, double cpu) {
        boolean none = nanos.getTotalCount() == 0;
        return new Sample(rate, none ? Double.NaN : nanos.getValueAtPercentile(50) / 1e3,
            none ? Double.NaN : nanos.getValueAtPercentile(99) / 1e3, none ? Double.NaN : nanos.getMaxValue() / 1e3,
            none ? Double.NaN : cpu, Double.NaN, Double.NaN, Double.NaN, Double.NaN, Double.NaN);
    }

    /** The same round beside what the device did around it. */
    Sample beside(Sample before, Sample after, double streamBefore, double streamAfter, double left) {
        return new Sample(rate, p50, p99, longest, cpu, rate / mean(before.rate, after.rate),
            rate / mean(streamBefore, streamAfter), p50 / mean(before.p50, after.p50), p99 / mean(before.p99, after.p99), left);
    }

    private static double mean(double a, double b) {
        return (a + b) / 2;
    }

    /** Median, least and most of one figure over the rounds that have it. */
    record Figure(double median, double least, double most) {
        static Figure of(List<Sample> samples, ToDoubleFunction<Sample> figure) {
            return of(samples.stream().map(figure::applyAsDouble).toList());
        }

        static Figure of(List<Double> all) {
            List<Double> values = new ArrayList<>(all);
            values.removeIf(value -> value.isNaN());
            if (values.isEmpty()) {
                return new Figure(Double.NaN, Double.NaN, Double.NaN);
            }
            Collections.sort(values);
            int half = values.size() / 2;
            double median = values.size() % 2 == 1 ? values.get(half) : (values.get(half - 1) + values.get(half)) / 2;
            return new Figure(median, values.get(0), values.get(values.size() - 1));
        }

        /** {@code median (least–most)} with so many decimals, each times {@code factor}; nothing where there is none. */
        String show(int decimals, double factor) {
            if (Double.isNaN(median)) {
                return "";
            }
            String one = "%,." + decimals + "f";
            return String.format(Locale.ROOT, one + " (" + one + "–" + one + ")", median * factor, least * factor,
                most * factor);
        }
    }
}
