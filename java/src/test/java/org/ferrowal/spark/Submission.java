package org.ferrowal.spark;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.ferrowal.Child;

/** Starts {@link App} by spark-submit. */
final class Submission {
    private Submission() {
    }

    /** Submits the application, with ferrowal given by --jars. */
    static Child of(Path temp, String master, Map<String, String> confs, String... arguments) {
        Path home = Path.of(System.getProperty("ferrowal.test.sparkHome"));
        String logging = "-Dlog4j2.configurationFile=" + logging(temp)
            + " -Dferrowal.test.work=" + System.getProperty("ferrowal.test.work");
        List<String> command = new ArrayList<>(List.of(System.getProperty("ferrowal.test.jvmArgs").split(" ")));
        command.addAll(List.of(logging.split(" ")));
        command.addAll(List.of("-Dferrowal.test.log=app-" + temp.getFileName() + ".log", "-Xmx1g", "-cp",
            home.resolve("jars") + "/*", "org.apache.spark.deploy.SparkSubmit", "--master", master, "--jars",
            System.getProperty("ferrowal.test.jar"), "--class", App.class.getName()));
        Map<String, String> all = new HashMap<>(Map.of(
            "spark.streaming.receiver.writeAheadLog.enable", "true",
            "spark.streaming.receiver.writeAheadLog.class", ReceiverWriteAheadLog.class.getName(),
            "spark.streaming.driver.writeAheadLog.class", DriverWriteAheadLog.class.getName(),
            "spark.ferrowal.dir", temp.resolve("log").toUri().toString(),
            "spark.ui.enabled", "false",
            "spark.driver.host", "localhost",
            "spark.driver.bindAddress", "127.0.0.1",
            "spark.executor.extraJavaOptions", "-Xcheck:jni -XX:ErrorFile="
                + System.getProperty("ferrowal.test.output") + "/hs_err_executor_%p.log " + logging
                + " -Dferrowal.test.log=executors-" + temp.getFileName() + ".log"));
        String[] store = store();
        if (store.length > 0) {
            all.put("spark.ferrowal.dir", store[0] + temp.resolve("log"));
            for (int i = 1; i < store.length; i++) {
                int equals = store[i].indexOf('=');
                all.put("spark.hadoop." + store[i].substring(0, equals), store[i].substring(equals + 1));
            }
        }
        all.putAll(confs);
        all.forEach((key, value) -> command.addAll(List.of("--conf", key + "=" + value)));
        command.add(System.getProperty("ferrowal.test.app"));
        command.add(temp.toString());
        command.addAll(List.of(arguments));
        return new Child(command, Map.of("SPARK_HOME", home.toString(), "SPARK_LOCAL_IP", "127.0.0.1",
            "SPARK_SCALA_VERSION", System.getProperty("ferrowal.test.scala")));
    }

    /** A store that the log is to be in, and keys of it: {@code make check-homes}. Empty for a local directory. */
    static String[] store() {
        String said = System.getProperty("ferrowal.test.store", "").trim();
        return said.isEmpty() ? new String[0] : said.split(" +");
    }

    private static String logging(Path temp) {
        Path file = temp.resolve("log4j2.properties");
        if (!Files.exists(file)) {
            try (var in = Submission.class.getResourceAsStream("/log4j2.properties")) {
                Files.copy(in, file);
            } catch (IOException e) {
                throw new java.io.UncheckedIOException(e);
            }
        }
        return file.toString();
    }
}
