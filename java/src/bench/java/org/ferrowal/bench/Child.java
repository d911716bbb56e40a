package org.ferrowal.bench;

import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** JVMs that the benchmark starts: with its own class path, and the flags that the rows need. */
final class Child {
    private Child() {
    }

    /** The command line, up to the main class; more JVM flags may be added to it. */
    static List<String> java() {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        ManagementFactory.getRuntimeMXBean().getInputArguments().stream()
            .filter(flag -> flag.startsWith("--add-") || flag.startsWith("-XX:") || flag.startsWith("-Xm")
                || flag.startsWith("-D")).forEach(command::add);
        command.add("-cp");
        command.add(System.getProperty("java.class.path"));
        return command;
    }
}
