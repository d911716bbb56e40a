package org.ferrowal.bench.rows;

import java.lang.management.ManagementFactory;

import com.sun.management.OperatingSystemMXBean;

/** CPU time of this JVM: all of its threads, user and system. */
public final class Cpu {
    private static final OperatingSystemMXBean SYSTEM =
        (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private Cpu() {
    }

    /** Nanoseconds since the JVM started; the kernel counts in steps of 10 ms. */
    public static long nanos() {
        return SYSTEM.getProcessCpuTime();
    }
}
