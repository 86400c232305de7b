"""One run for each customer, side by side on all workers, started by a task that does not wait for them."""

from tm import Executor, Graph, task

invoice = Graph(name="invoice")  # no schedule: started by hand, or by `bill`


@task(retries=2, retry_delay=1)
def total(customer):
    return {"customer": customer, "total": 10 * customer}


@task()
def write(total):
    print(f"invoice for customer {total['customer']}: {total['total']}")
    return total["total"]


invoice.add_edges([total], [write])

month_end = Graph(name="month end", schedule="0 2 1 * *")


@task()
def bill():
    """submit starts a run on the workers and returns a handle; submit_many starts many in one round trip."""
    handles = invoice.submit_many([{"customer": number} for number in range(1, 6)])
    return [handle.id for handle in handles]


month_end.add_edges([bill])

Executor(graphs=[month_end]).start()
