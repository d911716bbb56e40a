package org.ferrowal.demo;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Which write-ahead log the application runs with: a matter of configuration only. */
enum Mode {
    /** None; Spark's default. */
    NONE("no log", "none"),
    /** {@code FileBasedWriteAheadLog}, which comes with Spark. */
    SPARK("Spark's log", "spark"),
    /** This project's. */
    FERROWAL("ferrowal", "ferrowal");

    /** As the output names it. */
    final String title;
    /** As flags and files name it. */
    final String id;

    Mode(String title, String id) {
        this.title = title;
        this.id = id;
    }

    /** What the terminal says before the run. */
    String explanation() {
        return switch (this) {
            case NONE -> "A block that was stored lives in the application's memory until its batch has run.";
            case SPARK -> "FileBasedWriteAheadLog: each block is written to a file, never synced.";
            case FERROWAL -> Programs.store().length == 0 ? "Each block is on the device before store() returns."
                : "Each block is in " + Programs.store()[0] + " before store() returns.";
        };
    }

    /** The Spark configuration, {@code key=value}. {@code logDir} is ferrowal's; Spark's log lies in the checkpoint. */
    List<String> configuration(Path logDir) {
        List<String> conf = new ArrayList<>();
        if (this != NONE) {
            conf.add("spark.streaming.receiver.writeAheadLog.enable=true");
        }
        if (this == FERROWAL) {
            conf.add("spark.streaming.receiver.writeAheadLog.class=org.ferrowal.spark.ReceiverWriteAheadLog");
            conf.add("spark.streaming.driver.writeAheadLog.class=org.ferrowal.spark.DriverWriteAheadLog");
            String[] store = Programs.store();
            if (store.length == 0) {
                conf.add("spark.ferrowal.dir=" + logDir.toUri());
            } else {
                conf.add("spark.ferrowal.dir=" + store[0] + logDir);
                for (int i = 1; i < store.length; i++) {
                    conf.add("spark.hadoop." + store[i]);
                }
            }
        }
        return conf;
    }

    @Override
    public String toString() {
        return id;
    }
}
