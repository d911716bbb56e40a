package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.ObjectOutputStream;
import java.net.URI;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.ferrowal.Child;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code java -jar ferrowal.jar} on the log of a real application. */
class ToolTest {
    private static final Duration BOUND = Duration.ofSeconds(120);
    private static final String HOME = System.getProperty("ferrowal.test.sparkHome");

    @TempDir
    private Path temp;

    private static Child jar(String sparkHome, String... arguments) {
        List<String> command = new ArrayList<>(List.of("-jar", System.getProperty("ferrowal.test.jar")));
        command.addAll(List.of(arguments));
        return new Child(command, Map.of("SPARK_HOME", sparkHome));
    }

    private static String run(int code, Child tool) {
        try (tool) {
            assertEquals(code, tool.exit(BOUND), tool::output);
            return tool.output();
        }
    }

    /** How many lines are like this. */
    private static long count(String output, String expression) {
        return output.lines().filter(line -> line.matches(expression)).count();
    }

    @Test
    void theDriversEventsAreReadable() {
        assumeTrue(Submission.store().length == 0, "a store is reached with keys that the tool does not have");
        try (Child app = Submission.of(temp, "local[4]", Map.of(), "2", "500", "5", "2000", "20")) {
            app.await(line -> line.equals("started"), BOUND);
            for (int i = 0; i < 10; i++) {
                app.await(line -> line.startsWith("batch "), BOUND);
            }
            app.kill();
        }
        String log = temp.resolve("log").toString();
        // Beside the place and time of each record.
        String added = "    block added: stream [01], input-[01]-[0-9]+, [0-9]+ records, at ferrowal:[0-9a-f]{8}/1@[0-9]+\\+[0-9]+";
        String allocated = "    batch allocated: [0-9]+ ms";
        String block = "      stream [01], input-[01]-[0-9]+, [0-9]+ records, at ferrowal:.*";
        String all = run(0, jar(HOME, "dump", "--driver", "--format", "spark", log));
        assertTrue(count(all, added) >= 20, all);
        assertTrue(count(all, allocated) >= 5 && count(all, block) >= 20, all);
        assertTrue(count(all, "    batches cleaned up: [0-9]+ ms.*") >= 1, all);
        assertEquals(0, count(all, ".*none of Spark's.*"), all);

        String none = run(2, jar("", "dump", "--driver", "--format", "spark", log));
        assertTrue(none.contains("Spark's classes are not here: set SPARK_HOME for java -jar"), none);
        String wrong = run(2, jar(temp.toString(), "dump", "--driver", "--format", "spark", log));
        assertTrue(wrong.contains("SPARK_HOME=" + temp + " has no jars/*.jar"), wrong);
        String blocks = run(0, jar(HOME, "dump", "--receivers", "-n", "1", "--format", "spark", log));
        assertTrue(blocks.contains("none of Spark's driver events: "), blocks);

        List<String> submit = new ArrayList<>(List.of(System.getProperty("ferrowal.test.jvmArgs").split(" ")));
        submit.addAll(List.of("-cp", HOME + "/jars/*", "org.apache.spark.deploy.SparkSubmit", "--class",
            "org.ferrowal.Main", System.getProperty("ferrowal.test.jar"), "dump", "--driver", "--format", "spark", log));
        String submitted = run(0, new Child(submit, Map.of("SPARK_HOME", "", "SPARK_LOCAL_IP", "127.0.0.1")));
        assertEquals(count(all, added), count(submitted, added), submitted);

        String verified = run(0, jar("", "verify", log));
        assertTrue(verified.contains("all that was acknowledged is whole"), verified);
        assertTrue(run(0, jar("", "--help")).contains("spark.ferrowal.dir"));
        String missing = run(2, jar("", "inspect", temp.resolve("nothing").toString()));
        // A launcher may have said first which options it found in the environment.
        assertTrue(missing.lines().filter(line -> !line.startsWith("NOTE: ")).findFirst().orElse("").startsWith("ferrowal: "),
            missing);
    }

    @Test
    void aRecordOfSomebodyElsesMakingNamesNoOtherClasses() throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
            out.writeObject(URI.create("file:/"));
        }
        String said = new DriverEvents().apply(bytes.toByteArray());
        assertTrue(said.startsWith("none of Spark's driver events: ") && said.contains("REJECTED"), said);
        assertTrue(new DriverEvents().apply(new byte[] {1, 2, 3}).startsWith("none of Spark's driver events: 3 bytes"));
    }
}
