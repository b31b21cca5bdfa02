"""
The checks, a module for each part.

A check is a function, and gets a L{Session<twuws.conformance.session.Session>}::

    @check(14, "M", "2.2.3.2", "DELETE of a job leads to the job list, and the job is gone.")
    def deleteDestroys(uws: Session) -> None:
        job = uws.newJob()
        answer = uws.expect(job.delete(), 303)
        uws.require(answer.location == uws.url, f"It leads to {answer.location}.", answer)
        uws.require(job.isGone(), "The job is still there.")

It makes few jobs, and need not delete them; nor does it read the whole job list without need,
for that may be long.  It says what was found, not what is right: that
is in its sentence.  It waits for things to happen as long as C{uws.settings} allow, and never
sleeps for a time of its own.  What loads the service is C{load=True}, what may hurt it is
C{attack=True}; C{uws.many} is for what merely is done more often then.

The tests of the kit have a service that does everything right, and faults to switch on there;
each check must find one.
"""
