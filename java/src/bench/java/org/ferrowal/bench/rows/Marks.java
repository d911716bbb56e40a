package org.ferrowal.bench.rows;

import java.util.ArrayDeque;

/**
 * Up to where a log was written at which time: what a user of a log without record times keeps, to know what it may drop.
 * Not for use by several threads.
 */
final class Marks {
    private record Mark(long time, long next) {
    }

    private final ArrayDeque<Mark> marks = new ArrayDeque<>();
    private long dropped;

    /** Remembers that all numbers below {@code next} are given to records not later than {@code time}. */
    void add(long time, long next) {
        marks.add(new Mark(time, next));
    }

    /**
     * Takes what lies before a time and was not taken before.
     *
     * @return from (inclusive) and to (exclusive)
     */
    long[] before(long threshold) {
        long from = dropped;
        while (!marks.isEmpty() && marks.peek().time < threshold) {
            dropped = marks.poll().next;
        }
        return new long[] {from, dropped};
    }
}
