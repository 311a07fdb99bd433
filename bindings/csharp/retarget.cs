using System;
using System.Linq;
using System.Reflection;
using Mono.Cecil;

/// <summary>Makes an assembly that Mono's compiler made one of .NET Standard 2.0: there ReadOnlyMemory and its relatives are in
/// System.Memory, not in mscorlib, and no other runtime than Mono would find them.
///     mono retarget.exe IN.dll OUT.dll</summary>
internal static class Retarget
{
    private static readonly string[] Moved =
    {
        "System.ReadOnlyMemory`1", "System.Memory`1", "System.ReadOnlySpan`1", "System.Span`1", "System.MemoryExtensions",
        "System.Buffers.MemoryHandle", "System.Buffers.IPinnable", "System.Runtime.InteropServices.MemoryMarshal",
    };

    private static int Main(string[] arguments)
    {
        if (arguments.Length != 2)
        {
            Console.Error.WriteLine("usage: retarget IN.dll OUT.dll");
            return 2;
        }
        ModuleDefinition module = ModuleDefinition.ReadModule(arguments[0]);
        var memory = new AssemblyNameReference("System.Memory", new Version(4, 0, 1, 1))
        {
            PublicKeyToken = new byte[] { 0xcc, 0x7b, 0x13, 0xff, 0xcd, 0x2d, 0xdd, 0x51 },
        };
        module.AssemblyReferences.Add(memory);
        FieldInfo scope = typeof(TypeReference).GetField("scope", BindingFlags.Instance | BindingFlags.NonPublic); // no setter before 0.10
        foreach (TypeReference type in module.GetTypeReferences().Where(type => Moved.Contains(type.FullName)))
            scope.SetValue(type, memory);
        module.Write(arguments[1]);
        return 0;
    }
}
