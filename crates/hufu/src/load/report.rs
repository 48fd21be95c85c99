//! The report of a load for people.

use ::load::{Books, Percentiles, Report, text_us};

use crate::output::{line, table};

/// Prints the report.
pub(super) fn print(report: &Report) {
    line(format!(
        "{} to {}: {} payments due in {} s, {}/s ({}, seed {}, customers {})",
        report.numbers,
        report.target,
        report.due,
        report.duration_s,
        report.due_per_second,
        report.arrivals,
        report.seed,
        report.customers
    ));
    times(report);
    counts(report);
    if let Some(books) = &report.books {
        print_books(books);
    }
}

fn times(report: &Report) {
    let columns = ["Time", "Count", "p50", "p90", "p99", "p99.9", "max"];
    let mut table = table(&columns, &[1, 2, 3, 4, 5, 6]);
    let mut row = |name: &str, times: &Percentiles| {
        if times.count > 0 {
            let mut cells = vec![name.to_owned(), times.count.to_string()];
            cells.extend([times.p50, times.p90, times.p99, times.p999, times.max].map(text_us));
            table.add_row(cells);
        }
    };
    row("payment due → answered", &report.payments.latency_us);
    for (name, times) in &report.payments.results {
        row(&format!("  {name}"), times);
    }
    row("payment sent → answered", &report.payments.service_us);
    row("payment due → definite, if asked about", &report.definite_us);
    row("query due → answered", &report.polls.latency_us);
    for (name, times) in &report.polls.results {
        row(&format!("  {name}"), times);
    }
    row("query sent → answered", &report.polls.service_us);
    row("due → sent: lag of the generator", &report.generator.lag_us);
    row("due → sent: all connections busy", &report.generator.connection_wait_us);
    row("query due → sent: all connections busy", &report.generator.query_wait_us);
    line(table);
}

fn counts(report: &Report) {
    let (outcomes, seen) = (&report.outcomes, &report.generator);
    let mut table = table(&["Counts", ""], &[]);
    let mut row = |name: &str, text: String| {
        table.add_row([name.to_owned(), text]);
    };
    row(
        "a second: due, answered, taken",
        format!("{}, {}, {}", report.due_per_second, report.answered_per_second, report.taken_per_second),
    );
    for (name, requests) in [("payments", &report.payments), ("queries", &report.polls)] {
        row(
            &format!("{name}: sent, answered, lost, timed out, unanswered"),
            format!(
                "{}, {}, {}, {}, {}",
                requests.sent, requests.answered, requests.lost, requests.timed_out, requests.unanswered
            ),
        );
    }
    row(
        "ended: paid, not paid, reversed, not taken",
        format!("{}, {}, {}, {}", outcomes.paid, outcomes.not_paid, outcomes.reversed, outcomes.not_taken),
    );
    row(
        "not ended: open, nothing known, never sent",
        format!("{}, {}, {}", outcomes.open, outcomes.unknown, report.unsent),
    );
    row("most payments asked about at once", report.open_max.to_string());
    row(
        "connections: for payments, for queries, broken",
        format!("{}, {}, {}", report.connections, report.poll_connections, seen.connections_lost),
    );
    row(
        "generator: of a processor, for each request",
        format!("{} %, {}", seen.cpu_percent, text_us(seen.cpu_ns_per_request / 1_000)),
    );
    line(table);
}

fn print_books(books: &Books) {
    if books.agree {
        line(format!(
            "The wallet's books agree with what tills were told: {} payments, none charged twice.",
            books.found
        ));
        return;
    }
    line(format!(
        "The wallet's books differ from what tills were told: charged twice {}, told paid and not held {}, held and \
         not told {}, another amount {}: {}",
        books.charged_twice,
        books.told_paid_not_held,
        books.held_not_told,
        books.wrong_amount,
        books.numbers.join(", ")
    ));
}
