using System;
using System.Collections.Generic;
using System.Reflection;
using LibXai;

namespace Tests
{
    /// <summary>What a test asserts.</summary>
    internal static class Check
    {
        internal static void True(bool holds, string what)
        {
            if (!holds)
                throw new Exception(what);
        }

        internal static void Equal<T>(T expected, T found, string what = "")
        {
            if (!EqualityComparer<T>.Default.Equals(expected, found))
                throw new Exception(what + ": expected " + expected + ", found " + found);
        }

        internal static void Same<T>(IReadOnlyList<T> expected, IReadOnlyList<T> found, string what = "")
        {
            Equal(expected.Count, found.Count, what + " count");
            for (int i = 0; i < expected.Count; i++)
                Equal(expected[i], found[i], what + " entry " + i);
        }

        internal static void Near(double expected, double found, double tolerance, string what = "")
        {
            if (!(Math.Abs(expected - found) <= tolerance))
                throw new Exception(what + ": expected " + expected + " within " + tolerance + ", found " + found);
        }

        internal static T Throws<T>(Action action, string part = "") where T : Exception
        {
            try
            {
                action();
            }
            catch (T thrown)
            {
                True(thrown.Message.Contains(part), "'" + thrown.Message + "' lacks '" + part + "'");
                return thrown;
            }
            throw new Exception("nothing was thrown");
        }

        internal static XaiException Fails(Status status, Action action, string part = "", string place = null)
        {
            XaiException thrown = Throws<XaiException>(action, part);
            Equal(status, thrown.Status, "status of '" + thrown.Message + "'");
            if (place != null)
                Equal(place, thrown.Place, "place of '" + thrown.Message + "'");
            return thrown;
        }
    }

    /// <summary>Runs every public static method without parameters of the classes whose names end in Tests.</summary>
    internal static class Runner
    {
        private static int Main(string[] arguments)
        {
            int passed = 0, failed = 0;
            foreach (Type type in Assembly.GetExecutingAssembly().GetTypes())
            {
                if (!type.Name.EndsWith("Tests"))
                    continue;
                foreach (MethodInfo test in type.GetMethods(BindingFlags.Public | BindingFlags.Static))
                {
                    string name = type.Name + "." + test.Name;
                    if (arguments.Length > 0 && !name.Contains(arguments[0]))
                        continue;
                    var clock = System.Diagnostics.Stopwatch.StartNew();
                    try
                    {
                        test.Invoke(null, null);
                        passed++;
                        Console.WriteLine("ok      {0} ({1} ms)", name, clock.ElapsedMilliseconds);
                    }
                    catch (TargetInvocationException problem)
                    {
                        failed++;
                        Console.WriteLine("FAILED  {0}\n{1}", name, problem.InnerException);
                    }
                }
            }
            Console.WriteLine("{0} passed, {1} failed, 0 skipped", passed, failed);
            return failed == 0 && passed > 0 ? 0 : 1;
        }
    }
}
