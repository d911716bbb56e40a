package org.ferrowal.demo;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Where the class paths of the demo's programs come from, and the options that each kind of JVM needs. */
final class Programs {
    private Programs() {
    }

    static JavaProcess.Command broker(List<String> arguments) {
        return new JavaProcess.Command("broker", List.of(), setting("demo.broker.classpath"),
            List.of("-Xmx512m", "-XX:+UseSerialGC"), Broker.class, arguments);
    }

    /** A program on Spark's class path, with ferrowal's jar where the mode asks for it. */
    static JavaProcess.Command spark(String name, List<String> prefix, Mode mode, Path logDir, Class<?> main,
            List<String> options, List<String> arguments) {
        List<String> all = new ArrayList<>();
        // Spark 3.5 on JDK 17, when it is not started by spark-submit.
        all.add("--add-opens=java.base/sun.nio.ch=ALL-UNNAMED");
        // For short lives on few cores: start fast.
        all.addAll(List.of("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"));
        // What Spark's libraries unpack there stays behind when the process is killed.
        all.add("-Djava.io.tmpdir=" + temporaries());
        all.addAll(options);
        mode.configuration(logDir).forEach(conf -> all.add("-D" + conf));
        String classpath = setting("demo.spark.classpath");
        if (mode == Mode.FERROWAL) {
            classpath = setting("demo.ferrowal.jar") + java.io.File.pathSeparator + classpath;
        }
        return new JavaProcess.Command(name, prefix, classpath, all, main, arguments);
    }

    /** The store that ferrowal's log is to be in, and keys of it (HOME_KIND); empty for a local directory. */
    static String[] store() {
        String said = System.getenv("FERROWAL_TEST_STORE");
        return said == null ? new String[0] : said.trim().split(" +");
    }

    /** A directory that goes with the demo's other data. */
    private static Path temporaries() {
        try {
            return Files.createDirectories(Path.of(setting("demo.dir"), "work", "tmp"));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** A setting of {@code build/demo/launch.args}. */
    static String setting(String name) {
        String value = System.getProperty(name);
        if (value == null) {
            throw new DemoException("The system property " + name
                + " is missing: start the demo with `make demo` or `gradle demo`.");
        }
        return value;
    }
}
